"""Sampling: times, trajectories, inversion, interpolation, seeds, refusals."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.sampling import slerp, time_grid
from tests.oracles import gaussian, mixture, randn


def test_one_jump_is_the_flow_map():
    g, x = gaussian(), randn(5, 3)
    assert torch.equal(fm.sample(g, x), g.flow_map(x, 1.0, 0.0))


def test_steps_follow_the_times_in_their_order():
    seen = []

    def step(flow, x, s, t):
        seen.append((s, t))
        return x + 1

    x = fm.sample(None, torch.zeros(2, 2), times=[1.0, 0.7, 0.9, 0.0], step=step)
    assert seen == [(1.0, 0.7), (0.7, 0.9), (0.9, 0.0)] and (x == 3).all()
    seen.clear()
    fm.sample(None, torch.zeros(2, 2), 4, step=step)
    assert seen == [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    seen.clear()
    fm.invert(None, torch.zeros(2, 2), 2, step=step)
    assert seen == [(0.0, 0.5), (0.5, 1.0)]


@pytest.mark.parametrize("n", [1, 3, 7, 100, 1000])
def test_equal_steps_start_at_noise_and_end_at_data(n):
    grid = time_grid(n)
    assert len(grid) == n + 1 and grid[0] == 1.0 and grid[-1] == 0.0
    assert max(abs(a - b - 1 / n) for a, b in zip(grid, grid[1:], strict=False)) < 1e-12


def test_a_trajectory_is_every_state():
    m, x = mixture(), randn(4, 1)
    states = fm.trajectory(m, x, 4)
    assert len(states) == 5 and torch.equal(states[0], x) and torch.equal(states[-1], fm.sample(m, x, 4))
    for k, state in enumerate(states):
        torch.testing.assert_close(state, m.flow_map(x, 1.0, 1 - k / 4), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("make", [gaussian, mixture])
@pytest.mark.parametrize("n", [1, 3])
def test_inversion_is_the_inverse_of_sampling(make, n):
    exact = make()
    x = randn(6, *exact.shape)
    torch.testing.assert_close(fm.invert(exact, fm.sample(exact, x, n), n), x, rtol=1e-6, atol=1e-6)
    there_and_back = fm.invert(exact, fm.sample(exact, x, times=[1.0, 0.3]), times=[0.3, 1.0])
    torch.testing.assert_close(there_and_back, x, rtol=1e-6, atol=1e-6)


def test_inversion_by_a_velocity():
    g = gaussian()
    x = randn(6, 3)
    data = fm.sample(g, x, 200, step=fm.steps.heun)
    torch.testing.assert_close(fm.invert(g, data, 200, step=fm.steps.heun), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [gaussian, mixture])
def test_interpolation_starts_and_ends_at_the_data(make):
    exact = make()
    a, b = exact.sample(4), exact.sample(4)
    between = fm.interpolate(exact, a, b, 5)
    assert between.shape == (5, 4, *exact.shape) and between.isfinite().all()
    torch.testing.assert_close(between[0], a, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(between[-1], b, rtol=1e-6, atol=1e-6)


def test_slerp_walks_the_great_circle():
    a, b = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([[0.0, 2.0], [0.0, 1.0]]).double()
    third = slerp(a, b, 1 / 3)
    torch.testing.assert_close(third[0], 2 * torch.tensor([math.cos(math.pi / 6), 0.5], dtype=torch.float64))
    torch.testing.assert_close(third[1], b[1])  # equal ends
    x, y = randn(5, 2, 3), randn(5, 2, 3, seed=1)
    x, y = (v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1) for v in (x, y))
    torch.testing.assert_close(slerp(x, y, 0.3).flatten(1).norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.equal(slerp(x, y, 0.0), x)


def test_slerp_between_opposite_directions_is_the_chord():
    """One coordinate has two directions only, so this is what interpolation of one-dimensional data meets."""
    a = torch.tensor([[1.0], [2.0], [0.5]])
    torch.testing.assert_close(slerp(a, -3 * a, 0.25), 0 * a)
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)


def test_a_seed_fixes_random_steps_and_leaves_the_global_generator():
    g, x = gaussian(), randn(5, 3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    draws = [fm.sample(g, x, 3, step=fm.steps.ancestral, seed=seed) for seed in (7, 7, 8)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(fm.trajectory(g, x, 3, step=fm.steps.ancestral, seed=7)[-1], draws[0])
    assert not torch.equal(fm.sample(g, x, 3, step=fm.steps.ancestral), fm.sample(g, x, 3, step=fm.steps.ancestral))


def test_a_seed_does_not_bring_back_the_noise_that_it_drew_before():
    """Noise and steps under one seed: correlated by chance alone, four standard errors."""
    torch.manual_seed(3)
    noise = torch.randn(10_000, 1)
    again = fm.sample(None, noise, step=lambda flow, x, s, t: torch.randn_like(x), seed=3)
    assert (noise * again).mean().abs() < 4 / 10_000**0.5


def test_a_seed_leaves_the_global_generator_also_where_a_step_fails():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="goes from noise to data"):
        fm.sample(gaussian(), randn(2, 3), times=[1.0, 0.5, 0.8], step=fm.steps.ancestral, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_conditions_reach_the_network():
    class Label(torch.nn.Module):
        def forward(self, x, s, t, label, scale=1.0):
            return 0 * x + scale * label[:, None]

    flow, x, label = fm.FlowMap(Label()), torch.zeros(3, 2), torch.arange(3.0)
    torch.testing.assert_close(fm.sample(flow, x, 2, condition=label), -label[:, None].expand(3, 2))
    doubled = fm.sample(flow, x, condition={"label": label, "scale": 2.0})
    torch.testing.assert_close(doubled, -2 * label[:, None].expand(3, 2))
    torch.testing.assert_close(fm.invert(flow, x, condition=label), label[:, None].expand(3, 2))


def test_nothing_is_recorded_for_gradients():
    flow = fm.FlowMap(fm.networks.MLP(2, width=4, depth=1, embedding=4))
    x = torch.zeros(2, 2, requires_grad=True)
    assert not fm.sample(flow, x, 2).requires_grad and torch.is_grad_enabled()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"times": [1.0]}, r"at least two times, a start and an end, got \[1.0\]"),
        ({"times": [1.0, -0.1]}, "got -0.1"),
        ({"times": [1.5, 0.0]}, "got 1.5"),
        ({"times": [1.0, float("nan")]}, "got nan"),
    ],
)
def test_bad_times_are_refused(options, message):
    for call in (fm.sample, fm.trajectory, fm.invert):
        with pytest.raises(ValueError, match=message):
            call(gaussian(), randn(2, 3), **options)


def test_times_may_be_a_tensor():
    g, x = gaussian(), randn(2, 3)
    times = torch.linspace(1, 0, 3, dtype=torch.float64)
    torch.testing.assert_close(fm.sample(g, x, times=times), g.flow_map(x, 1.0, 0.0))
