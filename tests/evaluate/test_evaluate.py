"""The table: a perfect sampler scores the floor, an imperfect one does not, and calls are counted exactly."""

import json
import math

import pytest
import safetensors.torch
import torch
from torch import nn

from flowmaps import FlowMap, exact, steps
from flowmaps.consistency import compositional, eulerian, lagrangian
from flowmaps.data import as_data, load
from flowmaps.evaluate import Features, consistency_residuals, counting, evaluate, map_error
from flowmaps.figures import words
from flowmaps.networks import MLP
from flowmaps.sampling import sample


class Exact(nn.Module):
    """A network that is an exact average velocity, with an error added to it."""

    def __init__(self, distribution, error=0.0):
        super().__init__()
        self.distribution, self.error = distribution, error

    def forward(self, x, s, t):
        return self.distribution.average_velocity(x, s, t) + self.error


class Still(nn.Module):
    """A network without a velocity: its samples are the noise."""

    def forward(self, x, s, t, label=None):
        return torch.zeros_like(x)


GAUSSIAN = exact.Gaussian([0.5, -0.5], covariance=torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64))
WIDE = exact.Gaussian(torch.zeros(6, dtype=torch.float64), 0.7)
PIXELS = Features("pixels", lambda x: x.flatten(1).double())
SMALL = {"n": 256, "draws": 4, "jumps": (1, 2), "ode_steps": (4,)}


def within(a, b, a_error, b_error, errors=4):
    return abs(a - b) < errors * math.hypot(a_error, b_error)


@pytest.fixture(scope="module")
def perfect():
    return evaluate(FlowMap(Exact(GAUSSIAN)), GAUSSIAN, **SMALL)


def test_shape_of_the_result(perfect):
    assert list(perfect)[:4] == ["metric", "floor", "floor_stderr", "rows"]
    assert list(perfect["rows"][0])[:6] == [
        "sampler",
        "steps",
        "distance",
        "stderr",
        "seconds_per_sample",
        "network_calls",
    ]
    assert json.loads(json.dumps(perfect, allow_nan=False)) == perfect


def test_a_perfect_sampler_scores_the_floor(perfect):
    jump = perfect["rows"][0]
    assert within(jump["distance"], perfect["floor"], jump["stderr"], perfect["floor_stderr"])
    for key in ("kl_48", "kl_50"):
        errors = jump[f"{key}_stderr"], perfect[f"{key}_floor_stderr"]
        assert within(jump[key], perfect[f"{key}_floor"], *errors)


def test_an_imperfect_sampler_does_not():
    result = evaluate(FlowMap(Exact(GAUSSIAN, 0.5)), GAUSSIAN, **SMALL)
    jump = result["rows"][0]
    assert jump["distance"] > result["floor"] + 5 * math.hypot(jump["stderr"], result["floor_stderr"])
    assert result["map_error_one_jump"] == pytest.approx(0.5, rel=1e-4)


def test_the_distance_of_noise_is_measured_for_every_kind_of_data(perfect):
    """Untrained maps score like noise: of points far off the origin, of columns of any spread, of images."""
    assert words.unlearned(perfect) is None and words.standing(perfect["rows"][0], perfect) in ("real", "near")
    two_scales = torch.randn(3000, 1).sign() * torch.tensor([2e4, 1.0, 1e-3]) + 5.0
    for data in map(as_data, (torch.randn(900, 2).sign() + 30.0, two_scales, "digits")):
        options = {"n": 128, "draws": 2, "jumps": (1,), "ode_steps": (2,), "labels": False}
        found = evaluate(FlowMap(Still()), data, **options, features=PIXELS if data.kind == "images" else None)
        assert found["noise"] > found["floor"] + 3 * math.hypot(found["noise_stderr"], found["floor_stderr"])
        assert words.unlearned(found).startswith("Nothing has been learned yet")


def test_network_calls_are_counted(perfect):
    counts = {(row["sampler"], row["steps"]): row["network_calls"] for row in perfect["rows"]}
    assert counts == {("jump", 1): 1, ("jump", 2): 2, ("euler", 4): 4}


def test_the_ode_may_be_followed_by_another_step():
    """Heun's step calls the network twice, and is far nearer to the solution than Euler's in the same steps."""
    shared = {"jumps": (), "ode_steps": (4,), "n": 256, "draws": 2}
    flow = FlowMap(Exact(GAUSSIAN)).double()
    [euler], [heun] = (evaluate(flow, GAUSSIAN, ode_step=step, **shared)["rows"] for step in ("euler", steps.heun))
    assert (heun["sampler"], heun["steps"], heun["network_calls"]) == ("heun", 4, 8)
    assert (euler["sampler"], euler["network_calls"]) == ("euler", 4) and heun["distance"] < euler["distance"]
    with pytest.raises(ValueError, match="unknown step 'huen'"):
        evaluate(flow, GAUSSIAN, ode_step="huen", **shared)


def test_counting_sees_every_call():
    flow = FlowMap(Exact(GAUSSIAN))
    with counting(flow.network) as counter:
        sample(flow, torch.randn(5, 2), 3, step=steps.heun)
    flow(torch.randn(5, 2), 1.0, 0.0)
    assert (counter.calls, counter.rows, counter.backward_rows) == (6, 30, 0)


def test_counting_sees_the_rows_of_backward_passes():
    """One backward pass to the state through two calls, and none through a call without a gradient."""
    flow, x = FlowMap(MLP(2, width=8, depth=1)), torch.randn(5, 2, requires_grad=True)
    with counting(flow.network) as counter:
        with torch.no_grad():
            flow.velocity(x, 0.5)
        many = flow.velocity(x, 0.5).repeat(3, 1)
        torch.autograd.grad(flow.velocity(many, 0.2).sum(), x)
    assert (counter.calls, counter.rows, counter.backward_rows) == (3, 25, 20)


def test_a_gaussian_map_has_no_error():
    errors = map_error(FlowMap(Exact(GAUSSIAN)), GAUSSIAN)
    assert max(errors.values()) < 1e-6


def test_error_of_a_shifted_velocity():
    """V + c moves F by c (t - s): its mean square over the triangle t < s is c^2 / 6.

    Relative standard error of the mean square over 2048 pairs: sqrt(E d^4 / (E d^2)^2 - 1) / sqrt(2048) = 2.6 %.
    """
    errors = map_error(FlowMap(Exact(GAUSSIAN, 0.5)), GAUSSIAN)
    assert errors["map_error"] ** 2 == pytest.approx(0.25 / 6, rel=0.11)
    assert errors["map_error_one_jump"] == pytest.approx(0.5, rel=1e-5)


def test_vectors_are_compared_by_slices():
    result = evaluate(FlowMap(Exact(WIDE)), WIDE, **SMALL)
    jump = result["rows"][0]
    assert "directions" in result["metric"]
    assert within(jump["distance"], result["floor"], jump["stderr"], result["floor_stderr"])


def partial(exact, **only):
    return FlowMap(Exact(exact), **only)


def test_partial_maps_get_the_samplers_they_have():
    """Those score the floor, and no error of the map is found among the times that it knows."""
    to_data = evaluate(partial(GAUSSIAN, only_target=0.0), GAUSSIAN, **SMALL)
    assert [(row["sampler"], row["steps"]) for row in to_data["rows"]] == [("jump", 1), ("restart", 2)]
    from_noise = evaluate(partial(GAUSSIAN, only_source=1.0), GAUSSIAN, **SMALL)
    assert [(row["sampler"], row["steps"]) for row in from_noise["rows"]] == [("jump", 1)]
    for result in (to_data, from_noise):
        assert result["map_error"] < 1e-6 and result["map_error_one_jump"] < 1e-6
        for row in result["rows"]:
            assert within(row["distance"], result["floor"], row["stderr"], result["floor_stderr"])
    assert evaluate(partial(GAUSSIAN, only_source=1.0), GAUSSIAN, **{**SMALL, "jumps": (2,)})["rows"] == []


@pytest.mark.parametrize("only", [{"only_source": 1.0}, {"only_target": 0.0}])
def test_error_of_a_shifted_partial_map(only):
    """V + c moves F by c (t - s): over s = 1 or t = 0, with the gap uniform, its mean square is c^2 / 3.

    Relative standard error over 2048 pairs: sqrt(9 / 5 - 1) / sqrt(2048) = 2 %.
    """
    errors = map_error(FlowMap(Exact(GAUSSIAN, 0.5), **only), GAUSSIAN)
    assert errors["map_error"] ** 2 == pytest.approx(0.25 / 3, rel=0.08)
    assert errors["map_error_one_jump"] == pytest.approx(0.5, rel=1e-5)


def test_error_of_a_map_that_knows_one_jump_alone():
    errors = map_error(FlowMap(Exact(GAUSSIAN, 0.5), only_source=1.0, only_target=0.0), GAUSSIAN)
    assert errors["map_error"] == pytest.approx(0.5, rel=1e-5) == errors["map_error_one_jump"]


def test_a_partial_map_that_ends_before_the_data_has_no_jump_to_it():
    errors = map_error(partial(GAUSSIAN, only_target=0.1), GAUSSIAN)
    assert errors["map_error"] < 1e-6 and math.isnan(errors["map_error_one_jump"])


@pytest.mark.parametrize(
    ("only", "known"), [({"only_source": 1.0}, (4, slice(None))), ({"only_target": 0.0}, (slice(None), 0))]
)
def test_residuals_of_an_exact_partial_map_against_its_teacher(only, known):
    """The rule by default is the one that needs only what the map knows; everything else is left empty."""
    residuals = consistency_residuals(partial(WIDE, **only), WIDE.sample(16), teacher=WIDE, grid=5)
    assert float(residuals[known].max()) < 1e-10
    assert int(residuals.isfinite().sum()) == 5


def test_residual_against_a_teacher_sees_a_wrong_velocity():
    """V and its teacher differ by c on the diagonal, where the residual is that difference alone."""
    flow = FlowMap(Exact(WIDE, 0.25))
    residuals = consistency_residuals(flow, WIDE.sample(16), teacher=WIDE, grid=3)
    assert residuals.diagonal().tolist() == pytest.approx([0.25] * 3, abs=1e-10)


@pytest.mark.parametrize("only", [{"only_source": 1.0}, {"only_target": 0.0}])
def test_partial_maps_have_no_velocity_to_be_consistent_with(only):
    with pytest.raises(ValueError, match="a partial flow map has none: .*give teacher="):
        consistency_residuals(partial(WIDE, **only), WIDE.sample(4))


class Shift(nn.Module):
    """Noise moved to N(mean, I): a perfect sampler in any number of jumps or Euler steps, though not by the ODE."""

    def forward(self, x, s, t):
        return -torch.tensor([0.5, -0.5]).to(x) * torch.ones_like(x)


def test_many_steps_draw_fewer_samples_and_score_the_same_floor():
    """All three make the same samples, 64,000 of them or the first 8192."""
    data = exact.Gaussian([0.5, -0.5], 1.0)
    result = evaluate(FlowMap(Shift()), data, n=512, draws=8, jumps=(1,), ode_steps=(8, 9))
    jump, eight, nine = result["rows"]
    assert [row["samples"] for row in result["rows"]] == [64_000, 64_000, 8192]
    for key in ("kl_48", "kl_50"):
        floor, stderr = result[f"{key}_floor"], result[f"{key}_floor_stderr"]
        assert eight[key] == pytest.approx(jump[key], abs=jump[f"{key}_stderr"])
        assert within(jump[key], floor, jump[f"{key}_stderr"], stderr)
        assert within(nine[key], floor, nine[f"{key}_stderr"], stderr)
        assert jump[f"{key}_stderr"] < nine[f"{key}_stderr"] < 0.1 * nine[key] + 0.02
    assert within(nine["distance"], result["floor"], nine["stderr"], result["floor_stderr"])


@pytest.mark.slow
def test_precision_of_the_map_is_kept():
    flow = FlowMap(MLP(2, width=8, depth=1)).double()
    result = evaluate(flow, GAUSSIAN, **SMALL)
    assert result["map_error_one_jump"] > 0 and all(row["distance"] > 0 for row in result["rows"])


def test_the_same_seed_gives_the_same_distances(perfect):
    again = evaluate(FlowMap(Exact(GAUSSIAN)), GAUSSIAN, **SMALL)
    assert [row["distance"] for row in again["rows"]] == [row["distance"] for row in perfect["rows"]]


@pytest.mark.parametrize("rule", [lagrangian, eulerian, compositional])
def test_residuals_of_an_exact_map_are_zero(rule):
    flow = FlowMap(Exact(WIDE))
    residuals = consistency_residuals(flow, WIDE.sample(16), rule=rule, grid=5)
    below = torch.ones(5, 5).tril().bool()
    assert float(residuals[below].max()) < 1e-10
    assert bool(residuals[~below].isnan().all())


def test_residual_of_a_shifted_velocity():
    """V + c against v + c at the moved point: for N(0, 1) on the linear path v is linear in x with slope k(t).

    The residual is c - (c + k(t) (t - s) c) = -k(t) (t - s) c, with k(t) = (2 t - 1) / ((1 - t)^2 + t^2).
    """
    flow, grid = FlowMap(Exact(exact.Gaussian(torch.zeros(3, dtype=torch.float64), 1.0), 0.2)), [0.0, 0.25, 1.0]
    residuals = consistency_residuals(flow, torch.randn(8, 3, dtype=torch.float64), grid=torch.tensor(grid), both=True)
    for i, s in enumerate(grid):
        for j, t in enumerate(grid):
            k = (2 * t - 1) / ((1 - t) ** 2 + t**2)
            assert float(residuals[i, j]) == pytest.approx(abs(k * (t - s) * 0.2), abs=1e-10)


def test_images_need_held_out_rows_of_their_own():
    x = torch.rand(1, 1, 4, 4) * 2 - 1
    with pytest.raises(ValueError, match="held-out"):
        evaluate(FlowMap(Exact(WIDE)), as_data(x), **SMALL)


@pytest.mark.slow
def test_digits_against_a_gaussian_of_their_moments():
    """The features tell digits from the Gaussian with their mean and covariance, which pixels cannot."""
    data = load("digits")
    gaussian = exact.Gaussian.fit(data.draw(1437).x0)
    result = evaluate(FlowMap(Exact(gaussian)), data, n=360, draws=2, jumps=(1,), ode_steps=())
    jump = result["rows"][0]
    assert result["samples"] == 360 and "classifier" in result["metric"]
    assert jump["distance"] > result["floor"] + 10 * math.hypot(jump["stderr"], result["floor_stderr"])
    assert jump["whole_distance"] > 10 * result["whole_distance_floor"]
    assert jump["rounded_distance"] > jump["distance"]
    assert jump["kernel_distance"] > 10 * jump["kernel_distance_stderr"]
    assert 1.4 < jump["neighbour_ratio"] < 2.0 and jump["copies"] == 0


class Needing(nn.Module):
    """A network that is told a text, whose answer is the text's."""

    def forward(self, x, s, t, *, text):
        return x - text


def test_samples_are_drawn_under_the_conditions_of_the_data(tmp_path):
    """Rows whose text is the data point itself: one jump from the noise is exact."""
    x = torch.randn(300, 3)
    safetensors.torch.save_file({"x": x, "text": x.clone()}, tmp_path / "x.safetensors")
    result = evaluate(FlowMap(Needing()), load(tmp_path / "x.safetensors"), n=20, draws=2, jumps=(1,), ode_steps=())
    [row] = result["rows"]
    assert abs(row["distance"] - result["floor"]) < 4 * (row["stderr"] + result["floor_stderr"])
