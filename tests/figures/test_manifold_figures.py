"""Figures of points on manifolds: places of the points, chosen views, kernel estimates, and wrong input."""

import math

import pytest
import torch
from matplotlib.collections import PathCollection
from PIL import Image

from flowmaps.figures import angles, density, globe, land, light, rotations, world
from flowmaps.figures.projections import Orthographic
from flowmaps.figures.quaternions import _matrices
from flowmaps.figures.sphere import best_views, grid_of, grid_points, kernel_estimate
from flowmaps.manifolds import Sphere


def around(latitude, longitude, n=200, width=0.05):
    """Points around a place of the globe."""
    middle = land.unit(torch.tensor(float(latitude)), torch.tensor(float(longitude))).double()
    return Sphere(2).point(middle + width * torch.randn(n, 3, generator=torch.Generator().manual_seed(0)).double())


def drawn(axis):
    """The positions of all dots of a panel."""
    found = [dots for dots in axis.collections if isinstance(dots, PathCollection)]
    return torch.cat([torch.as_tensor(dots.get_offsets().data) for dots in found])


def test_a_globe_shows_its_points_and_hides_the_far_side(tmp_path):
    here, there = around(-33, 151), around(33, -29)
    figure = globe(torch.cat((here, there[:50])), tmp_path / "x.png", views=[(-33, 151), (33, -29)])
    assert [len(drawn(axis)) for axis in figure.axes] == [200, 50]
    assert drawn(figure.axes[0]).abs().max() < 0.3
    assert Image.open(tmp_path / "x.png").size[0] > 500


def test_views_are_chosen_to_show_the_points():
    views = best_views(torch.cat((around(-20, 150), around(10, -60, 100))), 2)
    assert views == [Orthographic(-20.0, 150.0), Orthographic(0.0, -60.0)] or views[1].longitude == -60.0
    assert best_views(torch.empty(0, 3).double(), 1) == [Orthographic(0.0, 0.0)]


def test_points_beside_others_are_named_and_seen_from_the_same_side():
    figure = globe(around(0, 90), beside=around(20, 60, 20), theme=light)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["samples", "data"]
    assert [len(drawn(axis)) for axis in figure.axes] == [200, 20]
    assert len(drawn(world(around(0, 179), land=False).axes[0])) == 200


def test_rows_that_are_not_finite_are_left_out_and_points_off_the_sphere_are_refused():
    x = around(0, 0)
    x[3] = math.nan
    assert len(drawn(globe(x).axes[0])) == 199
    with pytest.raises(ValueError, match="200 of 200 rows have another length, such as 2"):
        globe(around(0, 0) * 2)
    with pytest.raises(ValueError, match=r"shape \(N, 3\), got \(5, 2\)"):
        world(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="views must be"):
        globe(around(0, 0), views=[])


def test_a_kernel_estimate_is_a_density_relative_to_the_uniform_one():
    x, weight = grid_points(), grid_points()[..., :2].norm(dim=-1)
    found = grid_of(kernel_estimate(around(30, 60, 500), 5.0))[0, 0]
    assert float((found * weight).sum() / weight.sum()) == pytest.approx(1, abs=2e-3)
    at = x.reshape(-1, 3)[found.argmax()]
    assert Sphere(2).distance(at, land.unit(torch.tensor(30.0), torch.tensor(60.0)).double()) < math.radians(3)
    # a kernel of one point: its own density is 2 k/(1 - exp(-2 k)), k = 1/width^2
    k = 1 / math.radians(10) ** 2
    assert float(kernel_estimate(around(0, 0, 1, 0), 10.0)(around(0, 0, 1, 0))) == pytest.approx(2 * k, rel=1e-2)


@pytest.mark.slow
def test_densities_have_one_scale_of_colours(tmp_path):
    figure = density(around(0, 0), tmp_path / "x.png", beside=around(50, 100), width=10.0)
    assert len(figure.axes) == 5 and "uniform = 1" in figure.axes[-1].get_ylabel()
    assert density(lambda x: 1 + x[:, 2], land=False).axes[-1].get_ylabel() == "density"
    with pytest.raises(ValueError, match=r"to values \(N,\), got \(28800, 1\)"):
        density(lambda x: x[:, 2:])
    with pytest.raises(ValueError, match="not negative"):
        density(lambda x: x[:, 2])
    with pytest.raises(TypeError, match="of samples"):
        density([1.0])


def test_pairs_of_angles_are_in_degrees_and_wrapped():
    x = torch.deg2rad(torch.tensor([[190.0, -90.0, 30.0], [10.0, 370.0, 0.0], [math.nan, 0.0, 0.0]]))
    figure = angles(x, beside=x, names=["a", "b", "c"])
    assert [axis.get_xlabel() for axis in figure.axes] == ["", "", "a (°)", "b (°)"]
    torch.testing.assert_close(
        drawn(figure.axes[0]), torch.tensor([[-170.0, -90.0], [10.0, 10.0]]).double(), atol=1e-4, rtol=0
    )
    assert len(angles(torch.rand(5, 11)).axes) == 4 and len(angles(x, pairs=[(2, 0)]).axes) == 1
    assert angles(torch.rand(5, 1)).axes[0].get_xlim() == (-180, 180)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": [(0, 3)]}, "from 0 to 2"),
        ({"pairs": []}, "at least one pair"),
        ({"names": ["a"]}, "needs a name"),
        ({"beside": torch.rand(4, 2)}, "the same angles"),
    ],
    ids=["pair", "none", "names", "other"],
)
def test_wrong_pairs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        angles(torch.rand(5, 3), **options)


def test_rotations_turn_the_axes():
    """A quarter turn about z takes x to y, y to -x, and leaves z; the sign of the quaternion does not matter."""
    half = math.sqrt(0.5)
    quarter = torch.tensor([[half, 0, 0, half], [-half, 0, 0, -half]])
    wanted = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    torch.testing.assert_close(_matrices("x", quarter), wanted.expand(2, 3, 3), atol=1e-6, rtol=0)
    figure = rotations(quarter, beside=quarter[:1])
    assert len(figure.axes) == 6 and figure.axes[0].get_title(loc="left") == "samples: turned x axis"
    with pytest.raises(ValueError, match="unit quaternions"):
        rotations(torch.ones(3, 4))
