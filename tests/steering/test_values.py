"""Values and look-ahead: numbers against closed forms, gradients against differences, and counted passes."""

import math

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import steps
from flowmaps.steering.shared import Shared
from tests.oracles import PATHS, Jumps, randn
from tests.steering.beds import SLOPE, Coarse, Draws, diagonal, exact_value, measurement, tensor, three

S, R, L = fm.steering, fm.rewards, fm.look
LOOKS = {
    "denoise": L.denoise, "jump": L.jump(), "jumps": L.jump(2), "field": L.field(lambda t: t / 2),
    "widened": L.widened(0.7), "moments": L.moments(), "glass": L.glass(3, 2), "renoise": L.renoise(3, 2.0),
}  # fmt: skip


def reward_of(name):
    return measurement() if name in ("widened", "moments") else lambda x0: torch.sin(x0).sum(1)


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("path", ["linear", "trigonometric", "preserving", "exploding"])
def test_gradients_of_values_agree_with_differences(name, path):
    """Every look-ahead, on every path, at two times; the random ones with the same random numbers."""
    flow, value = Coarse(three(PATHS[path]), 3), S.value(reward_of(name), LOOKS[name])
    x, direction, h = randn(3, 2), randn(3, 2, seed=5), 1e-5

    def at(x, t):
        torch.manual_seed(1)
        return value(flow, x, t)

    for t in (0.3, 0.8):
        torch.manual_seed(1)
        found, gradient = S.full(value, flow, x, t)
        torch.testing.assert_close(found, at(x, t).detach())
        difference = (at(x + h * direction, t) - at(x - h * direction, t)).detach() / (2 * h)
        torch.testing.assert_close((gradient * direction).sum(1), difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOOKS)
def test_rows_do_not_couple_and_times_may_differ_by_row(name):
    """A batch of rows with times of their own has the values of single rows."""
    if name in ("glass", "renoise"):
        look = {"glass": L.glass(1, 2), "renoise": L.renoise(1, 2.0)}[name]
    else:
        look = LOOKS[name]
    flow, value, x = Coarse(three(), 3), S.value(reward_of(name), look), randn(3, 2)
    t = tensor(0.2, 0.5, 0.9)
    if isinstance(look, type(L.glass(1, 1)) | type(L.renoise(1, 2.0))):  # the rows of one time
        assert value(flow, x, t[:, None]).shape == (3,)
        return
    if name in ("jump", "jumps", "field"):
        flow = fm.FlowMap(Jumps(fm.exact.Gaussian(tensor(0.3, -0.5), 0.7)))
    together, single = (
        S.full(value, flow, x, t[:, None]),
        [S.full(value, flow, x[k : k + 1], float(t[k])) for k in range(3)],
    )
    for k in range(2):
        torch.testing.assert_close(together[k], torch.cat([one[k] for one in single]))


@pytest.mark.parametrize("look", [L.denoise, L.jump(), L.field(lambda t: 0.0), L.widened(), L.moments(), L.glass(2, 3),
                                  L.renoise(2, 3.0), Draws(three(), 2)])  # fmt: skip
def test_at_the_data_a_value_is_the_reward(look):
    x, reward = randn(3, 2), measurement()
    torch.testing.assert_close(S.value(reward, look)(Coarse(three()), x, 0.0), reward(x))


def test_the_widened_value_is_exact_for_isotropic_gaussian_data_and_moments_for_any():
    """Against log p*_t - log p_t + log Z, on every path."""
    for path in PATHS.values():
        x, reward = randn(4, 2), measurement()
        data = fm.exact.GaussianMixture([1.0], tensor([0.4, -0.2]), 0.7, path=path)
        root = tensor([0.9, 0.0], [0.5, 0.3])
        skew = fm.exact.GaussianMixture([1.0], tensor([0.4, -0.2]), covariances=(root @ root.T)[None], path=path)
        for law, look in ((data, L.widened(0.7)), (data, L.moments()), (skew, L.moments())):
            for t in (0.1, 0.6, 0.9):
                truth = exact_value(law, reward)(law, x, t)
                torch.testing.assert_close(S.value(reward, look)(law, x, t), truth, rtol=1e-5, atol=1e-5)


def test_a_linear_reward_is_widened_exactly():
    law = fm.exact.GaussianMixture([1.0], tensor([0.4, -0.2]), 0.7)
    x, reward = randn(4, 2), R.Linear(SLOPE)
    truth = exact_value(law, reward)(law, x, 0.4)
    torch.testing.assert_close(S.value(reward, L.widened(0.7))(law, x, 0.4), truth)
    torch.testing.assert_close(S.value(2 * R.Linear(SLOPE / 2), L.moments())(law, x, 0.4), truth)


def test_field_lies_between_the_denoiser_and_the_jump():
    flow = fm.FlowMap(Jumps(three()))
    for path in PATHS.values():
        flow = fm.FlowMap(Jumps(three(path)), path=path)
        x, t = randn(3, 2), 0.6
        torch.testing.assert_close(L.field(lambda t: t)(flow, x, t).draws[0], flow.denoise(x, t))
        torch.testing.assert_close(L.field(lambda t: 0.0)(flow, x, t).draws[0], flow(x, t, 0.0))
    linear, x = fm.FlowMap(Jumps(three())), randn(3, 2)
    expected = x - 0.6 * linear.average_velocity(x, 0.6, 0.2)
    torch.testing.assert_close(L.field(lambda t: t / 3)(linear, x, 0.6).draws[0], expected)


@pytest.mark.parametrize("path", [PATHS["linear"], PATHS["trigonometric"]], ids=["linear", "trigonometric"])
def test_glass_draws_have_the_moments_of_the_posterior(path):
    """4000 draws of 40 steps: standard error .02 of a mean; the error of the steps is below it."""
    mixture, x = three(path), randn(2, 2)
    draws = L.glass(4000, 40)(mixture, x, 0.6).draws
    law = mixture.posterior_of_data(x, 0.6)
    assert (draws.mean(0) - law.mean()).abs().max() < 0.08
    covariance = ((draws - draws.mean(0))[..., :, None] * (draws - draws.mean(0))[..., None, :]).mean(0)
    assert (covariance - law.covariance().reshape(2, 2, 2)).abs().max() < 0.12


def test_a_value_of_draws_is_the_mean_of_the_weights():
    mixture, x = three(), randn(3, 2)
    reward = R.Linear(SLOPE)
    truth = exact_value(mixture, reward)(mixture, x, 0.5)
    found = S.value(reward, Draws(mixture, 6000))(mixture, x, 0.5)
    assert (found - truth).abs().max() < 0.08  # standard error .02
    floored = S.value(reward, Draws(mixture, 6000), floor=1.0)(mixture, x, 0.5)
    assert (floored > 1.0).all() and (floored > found).all()


def test_annealing_vanishes_where_b_grows():
    flow, x = Coarse(three()), randn(2, 2)
    reward = R.Linear(SLOPE)
    jump = reward(flow(x, 0.6, 0.0))
    torch.testing.assert_close(S.value(reward, L.jump())(flow, x, 0.6), 0.4 * jump)
    torch.testing.assert_close(S.value(reward, L.jump(), anneal=lambda t: (1 - t) ** 2)(flow, x, 0.6), 0.16 * jump)
    torch.testing.assert_close(S.value(reward, anneal=0.5)(flow, x, 0.6), 0.5 * reward(flow.denoise(x, 0.6)))
    for look in (L.jump(), L.field(lambda t: 0.0)):
        with pytest.raises(ValueError, match=r"anneal=1.*b\(t\), which grows without bound"):
            S.value(reward, look, anneal=1.0)


@pytest.mark.parametrize("c", [0.01, 100.0])
def test_clipped_and_normalised_gradients_have_the_norms_of_rows(c):
    mixture, x, value = three(), randn(5, 2), S.value(R.Linear(SLOPE))
    _, gradient = S.full(value, mixture, x, 0.5)
    _, clipped = S.clipped(c)(value, mixture, x, 0.5)
    torch.testing.assert_close(clipped.norm(dim=1), gradient.norm(dim=1).clamp(max=c))
    _, scaled = S.normalised(c)(value, mixture, x, 0.5)
    torch.testing.assert_close(scaled.norm(dim=1), c * mixture.velocity(x, 0.5).norm(dim=1))
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(scaled, gradient), torch.ones(5).double())


def test_a_stopped_gradient_leaves_out_the_network():
    mixture, x = three(), randn(4, 2)
    _, gradient = S.stopped(S.value(R.Linear(SLOPE)), mixture, x, 0.5)
    torch.testing.assert_close(gradient, SLOPE.expand(4, 2))
    found, _ = S.stopped(S.value(measurement(), L.widened()), mixture, x, 0.5)
    torch.testing.assert_close(found, S.value(measurement(), L.widened())(mixture, x, 0.5))


def test_a_stopped_gradient_is_the_sum_over_draws_and_a_floor_damps_a_free_one():
    """Of a linear reward c . x0 the weights of the draws sum to 1; a floor multiplies with sigmoid(V - floor)."""
    mixture, x = three(), randn(4, 2)
    _, gradient = S.stopped(S.value(R.Linear(SLOPE), L.glass(3, 2)), mixture, x, 0.5)
    torch.testing.assert_close(gradient, SLOPE.expand(4, 2))
    found = []
    for floor in (None, 0.7):
        torch.manual_seed(0)
        found.append(S.free(S.value(R.Linear(SLOPE), Draws(mixture, 4), floor=floor), mixture, x, 0.5))
    (V, free), (floored, damped) = found
    torch.testing.assert_close(floored, torch.logaddexp(V, tensor(0.7)))
    torch.testing.assert_close(damped, torch.sigmoid(V - 0.7)[:, None] * free)


def test_the_free_gradient_is_that_of_the_exact_value():
    """With many exact draws, for a reward without a gradient too. 8000 draws: standard error .03."""
    mixture, x, reward = three(), randn(3, 2), R.Linear(SLOPE)
    _, truth = S.full(exact_value(mixture, reward), mixture, x, 0.5)
    _, found = S.free(S.value(reward, Draws(mixture, 8000)), mixture, x, 0.5)
    assert (found - truth).abs().max() < 0.1
    _, found = S.free(S.value(lambda x0: (x0 @ SLOPE).detach(), Draws(mixture, 8000)), mixture, x, 0.5)
    assert (found - truth).abs().max() < 0.1
    with pytest.raises(ValueError, match="needs several draws"):
        S.free(S.value(reward), mixture, x, 0.5)
    with pytest.raises(TypeError, match=r"made by fm\.steering\.value"):
        S.free(lambda flow, x, t: x.sum(1), mixture, x, 0.5)


class Counted(nn.Module):
    """A network that counts its passes and the rows of them."""

    def __init__(self):
        super().__init__()
        self.network, self.rows = fm.networks.MLP(shape=(2,), width=8, depth=1).double(), 0

    def forward(self, x, s, t):
        self.rows += len(x)
        return self.network(x, s, t)


COST = {  # calls of the network, and passes for each state, of one velocity of a tilt
    "denoise": (L.denoise, 1, 1), "jump": (L.jump(), 2, 2), "jump(3)": (L.jump(3), 4, 4),
    "field": (L.field(lambda t: t / 2), 2, 2), "field at t": (L.field(lambda t: t), 1, 1),
    "widened": (L.widened(), 1, 1), "moments": (L.moments(), 1, 1), "glass": (L.glass(4, 3), 4, 13),
    "renoise": (L.renoise(4, 2.0), 2, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", COST)
def test_passes_are_those_of_the_table(name):
    """The velocity and the look-ahead share a call of the network: 1, 1 + L, 1 + n m, 1 + n passes a state."""
    look, calls, passes = COST[name]
    network, x = Counted(), randn(5, 2)
    reward = measurement() if name in ("widened", "moments") else R.Linear(SLOPE)
    with fm.evaluate.counting(network) as counter:
        S.tilt(fm.FlowMap(network), S.value(reward, look)).velocity(x, 0.5)
    assert (counter.calls, network.rows) == (calls, 5 * passes)


def test_a_step_of_particles_costs_one_pass_with_the_denoised_state():
    """For consistency models with restarts too: the jump of the look-ahead is the kernel's."""
    reward = R.Linear(SLOPE)
    runs = {
        "denoise": (S.value(reward), steps.ancestral, 7), "widened": (S.value(reward, L.widened()), steps.sde(0.5), 7),
        "restart": (S.value(reward, L.jump()), steps.restart, 7),
        "fmtt": (S.value(reward, L.jump()), steps.ancestral, 14),
    }  # fmt: skip
    for value, kernel, calls in runs.values():
        network = Counted()
        with fm.evaluate.counting(network) as counter:
            S.particles(fm.FlowMap(network), randn(6, 2), 7, reward=reward, value=value, kernel=kernel, resample=1.0)
        assert counter.calls == calls
    for step, calls in ((S.dps(measurement(), published=True), 7), (S.dps(measurement()), 7), (S.fmrg(reward), 14)):
        network = Counted()
        with fm.evaluate.counting(network) as counter:
            fm.sample(fm.FlowMap(network), randn(6, 2), 7, step=step)
        assert counter.calls in (calls, calls - 1)  # no look-ahead is left at t = 0


def test_answers_are_shared_for_the_same_tensor_alone():
    network, x = Counted(), randn(5, 2)
    shared = Shared(fm.FlowMap(network))
    with fm.evaluate.counting(network) as counter:
        shared.velocity(x, 0.5), shared.denoise(x, 0.5), Shared(shared).velocity(x, 0.5)
        assert counter.calls == 1
        torch.testing.assert_close(shared.denoise(x, 0.5), fm.FlowMap(network).denoise(x, 0.5))
        shared.velocity(x.clone(), 0.5), shared.velocity(x, 0.4), shared(x, 0.5, 0.0)
    assert counter.calls == 5


def test_posterior_maps_get_the_state_and_its_time():
    class Map:
        path = fm.path.linear

        def given(self, **condition):
            self.condition = condition
            return self

        def __call__(self, x, s, t):
            assert (s, t) == (1.0, 0.0)
            return x + 10 * self.condition["state"]

    x, inner = randn(3, 2), Map()
    draws = L.posterior(inner, 4)(three(), x, 0.3).draws
    assert draws.shape == (4, 3, 2) and inner.condition["at"].shape == (12,)
    torch.testing.assert_close(draws.mean(0), 10 * x, atol=4.0, rtol=0)
    assert (draws[0] - draws[1]).abs().min() > 1e-3


def test_wrong_look_aheads_and_values_are_refused():
    reward, mixture, x = R.Linear(SLOPE), three(), randn(3, 2)
    noise_map = fm.FlowMap(Jumps(mixture), only_source=1.0)
    cases = [
        (ValueError, r"only knows the source time 1.*best_of", lambda: S.value(reward, L.jump())(noise_map, x, 0.5)),
        (ValueError, r"only knows the source time 1", lambda: S.value(reward, L.renoise(2, 2.0))(noise_map, x, 0.5)),
        (ValueError, "look.denoise needs the velocity", lambda: S.value(reward)(noise_map, x, 0.5)),
        (ValueError, r"partial flow map has none.*best_of", lambda: S.tilt(noise_map, S.value(reward))),
        (ValueError, r"down to a time in \[0, t\]", lambda: L.field(lambda t: 2 * t)(mixture, x, 0.4)),
        (TypeError, r"call it, fm\.look\.jump\(\.\.\.\)", lambda: S.value(reward, L.jump)),
        (TypeError, "look must be a look-ahead", lambda: S.value(reward, "denoise")),
        (TypeError, "a reward is a function", lambda: S.value(3)),
        (TypeError, "with a Gaussian mean", lambda: S.value(lambda x0: x0.sum(1), L.widened())(mixture, x, 0.5)),
        (TypeError, "Label has none", lambda: S.value(R.label(lambda x0: x0, 0), L.widened())(mixture, x, 0.5)),
        (ValueError, "at least 1", lambda: L.glass(0, 3)),
        (ValueError, "above 1, got 0.5", lambda: L.renoise(3, 0.5)),
        (TypeError, r"given\(state=, at=\)", lambda: L.posterior(lambda x, s, t: x, 3)),
        (ValueError, "data_std must be positive", lambda: L.widened(0.0)),
        (ValueError, "limit must be positive", lambda: S.tilt(mixture, S.value(reward), limit=0.0)),
        (TypeError, "a value is made by", lambda: S.tilt(mixture, 3)),
        (TypeError, "steering changes a velocity", lambda: S.tilt(nn.Linear(2, 2), S.value(reward))),
        (ValueError, "has no gradient with respect to the state",
         lambda: S.tilt(mixture, S.value(lambda x0: x0.argmax(1).double())).velocity(x, 0.5)),
        (ValueError, "has no gradient with respect to the state",
         lambda: S.tilt(mixture, S.value(lambda x0: x0.detach().sum(1))).velocity(x, 0.5)),
    ]  # fmt: skip
    for error, message, wrong in cases:
        with pytest.raises(error, match=message):
            wrong()
    assert math.isfinite(S.value(reward)(mixture, x, 0.5).sum())
    assert diagonal().shape == (2,)
