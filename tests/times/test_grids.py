"""Grids of times: EDM's levels by hand, the laws of the samplers on a grid, and the point below."""

import pytest
import torch

from flowmaps.times import grids

N = 40_000
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SIZES = pytest.mark.parametrize("points", [1, 2, 18, 150, 1280])


def is_drawn_as_often(counts, shares):
    """Binomial, four standard errors."""
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - N * share) <= 4 * (N * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("rho, low, high", [(7.0, 0.002, 80.0), (3.0, 0.1, 10.0)])
@pytest.mark.parametrize("points", [3, 18, 150])
def test_karras(points, rho, low, high):
    """The points between the ends are EDM's levels, x_t/(1 - t) = x_0 + sigma eps with sigma = t/(1 - t)."""
    grid = grids.karras(points, rho, low, high)
    assert grid.shape == (points + 1,) and (grid[0], grid[-1]) == (0, 1)
    for i in range(1, points):
        sigma = (low ** (1 / rho) + i / points * (high ** (1 / rho) - low ** (1 / rho))) ** rho
        assert (grid[i] / (1 - grid[i])).item() == pytest.approx(sigma, rel=1e-10)


@SIZES
def test_grids_ascend_from_data_to_noise(points):
    for grid in (grids.karras(points), grids.uniform_grid(points)):
        assert grid.dtype == torch.float64 and len(grid) == points + 1
        assert grid[0] == 0 and grid[-1] == 1 and (grid.float().diff() > 0).all()


def test_uniform_grid():
    assert grids.uniform_grid(4).tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("make", [grids.karras, grids.uniform_grid])
@pytest.mark.parametrize("points", [0, -2])
def test_a_grid_needs_a_point(make, points):
    with pytest.raises(ValueError, match=f"points must be at least 1, got {points}"):
        make(points)


def test_on_draws_every_point_after_the_first_as_often():
    grid = grids.karras(6)
    s, t = grids.on(grid)(N, 0.0, torch.zeros(1, dtype=torch.float64))
    assert (t == 0).all() and torch.isin(s, grid[1:]).all()
    is_drawn_as_often([(s == point).sum() for point in grid[1:]], [1 / 6] * 6)


def test_on_pairs_draws_the_target_from_all_points_below():
    grid = grids.karras(4)
    s, t = grids.on_pairs(grid)(N, 0.0, torch.zeros(1, dtype=torch.float64))
    assert (t < s).all()
    pairs = [(i, j) for i in range(1, 5) for j in range(i)]
    is_drawn_as_often([((s == grid[i]) & (t == grid[j])).sum() for i, j in pairs], [1 / 4 / i for i, _ in pairs])


@pytest.mark.parametrize("sampler", [grids.on, grids.on_pairs])
@pytest.mark.parametrize("dtype, expected", [(torch.float64,) * 2, (torch.float32,) * 2, (torch.half, torch.float32)])
def test_draws_on_a_grid_are_its_points_in_the_dtype_of_times(sampler, dtype, expected):
    grid = grids.karras(18)
    s, t = sampler(grid)(1000, 0.0, torch.zeros(1, dtype=dtype))
    assert s.dtype == t.dtype == expected and s.shape == t.shape == (1000,)
    assert torch.isin(s, grid.to(expected)).all() and torch.isin(t, grid.to(expected)).all()


@SIZES
@DTYPES
def test_below_a_point_of_the_grid_is_the_point_before_it(points, dtype):
    """Also where the source is a rounded point: one float off to either side."""
    for grid in (grids.karras(points), grids.uniform_grid(points)):
        s, t = grid[1:, None].to(dtype), torch.zeros(points, 1, dtype=dtype)
        for source in (s, torch.nextafter(s, 2 * s), torch.nextafter(s, 0 * s)):
            assert torch.equal(grids.below(grid)(source, t), grid[:-1, None].to(dtype))


@DTYPES
def test_rounding_on_the_way_to_a_point_does_not_repeat_it(dtype):
    """A grid of float64 seen in float32, and a point that arithmetic found."""
    grid = grids.uniform_grid(10)
    s = torch.tensor([0.1 + 0.2, 1 - 0.9, 0.7], dtype=dtype)
    torch.testing.assert_close(grids.below(grid)(s, 0 * s), torch.tensor([0.2, 0.0, 0.6], dtype=dtype))


@DTYPES
def test_below_a_time_between_two_points_is_the_lower_one(dtype):
    grid = torch.tensor([0.0, 0.1, 0.4, 1.0])
    s = torch.tensor([[0.05], [0.2], [0.39], [0.5], [0.9], [0.0]], dtype=dtype)
    expected = torch.tensor([[0.0], [0.1], [0.1], [0.4], [0.4], [0.0]])
    assert torch.equal(grids.below(grid)(s, 0 * s), expected.to(dtype))


def test_below_goes_several_points_down_but_not_below_the_target():
    grid = grids.uniform_grid(8)
    s = torch.tensor([1.0, 0.5, 0.25, 0.125, 0.3], dtype=torch.float64)
    assert grids.below(grid, 3)(s, 0 * s).tolist() == [0.625, 0.125, 0.0, 0.0, 0.0]
    t = torch.tensor([0.7, 0.1, 0.2, 0.125, 0.29], dtype=torch.float64)
    assert grids.below(grid, 3)(s, t).tolist() == [0.7, 0.125, 0.2, 0.125, 0.29]
