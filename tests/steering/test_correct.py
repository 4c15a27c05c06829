"""Corrected steps against closed forms, and the papers' methods as sentences of the parts."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps import steps
from tests.beds import bed_a
from tests.oracles import randn
from tests.steering.beds import MEASURED, SLOPE, Coarse, diagonal, measurement, noise, tensor, three

S, R, L = fm.steering, fm.rewards, fm.look
NORMAL = fm.exact.Gaussian(0.0, 1.0)


def quadratic(a, m):
    return lambda x0: -a / 2 * (x0[:, 0] - m) ** 2


@pytest.mark.parametrize("a, strength, until, sd", [
    (1.0, 1.0, 0.0, 0.207880), (1.0, 0.5, 0.0, 0.455938), (2.0, 0.25, 0.0, 0.455938), (1.0, 1.0, 0.7, 0.667049),
])  # fmt: skip
def test_reward_guidance_of_a_normal_law_has_its_closed_form(a, strength, until, sd):
    """It maximises: sd e^(-pi lambda a/2) and mean m (1 - e^(-pi lambda a/2)), with the tilt's sd 1/sqrt(1 + a)."""
    errors = []
    for count in (250, 500):
        step = S.fmrg(quadratic(a, 2.0), strength, until=until)
        low, middle, high = fm.sample(NORMAL, tensor([-1.0], [0.0], [1.0]), count, step=step)[:, 0].tolist()
        errors.append(abs((high - low) / 2 - sd))
        assert middle == pytest.approx(2 * (1 - sd), abs=0.01)
    assert errors[1] < 2e-3 and errors[1] < 0.6 * errors[0] + 1e-5  # of first order in the step
    assert abs(sd - 1 / math.sqrt(1 + a)) > 0.03


def test_inner_steps_share_the_strength_and_a_function_gives_the_factor():
    value, x = S.value(R.Linear(SLOPE)), randn(3, 2)
    point = fm.exact.Gaussian(tensor(0.0, 0.0), 1.0)
    for inner in (1, 3):  # the gradient of a linear reward of a Gaussian is constant
        found = S.corrected(steps.jump, value, 2.0, inner)(point, x, 0.6, 0.4)
        gain = 0.6 / (0.6**2 + 0.4**2)
        torch.testing.assert_close(found, point(x, 0.6, 0.4) + 2.0 * 0.2 * gain * SLOPE)
    fixed = S.corrected(steps.jump, value, lambda s, t: 0.7)(point, x, 0.6, 0.4)
    torch.testing.assert_close(fixed, point(x, 0.6, 0.4) + 0.7 * gain * SLOPE)


def test_published_dps_is_an_ancestral_step_with_the_gradient_of_the_norm_of_each_row():
    """By its formula, with one norm a row: a batch has the steps of its rows."""
    flow, reward, x = diagonal(), measurement(), randn(3, 2)
    torch.manual_seed(2)
    found = S.dps(reward, 0.4, published=True)(flow, x, 0.7, 0.5)
    leaf = x.clone().requires_grad_()
    distance = (-1 - flow.denoise(leaf, 0.7) @ MEASURED[0]).abs()
    (gradient,) = torch.autograd.grad(distance.sum(), leaf)
    torch.manual_seed(2)
    torch.testing.assert_close(found, steps.ancestral(flow, x, 0.7, 0.5) - 0.4 * gradient)


def test_published_dps_draws_from_no_posterior_and_the_default_nearly_does():
    """Bed C, 1000 samples: sd(a.x) is .197 and the weights .572, .367, .062, with standard error .016."""
    mixture, reward = diagonal(), measurement()
    tilted, _ = mixture.tilted(reward)

    def run(step):
        x = fm.sample(mixture, noise(1000), 100, step=step, seed=3)
        return tilted.posterior(x, 0.0).mean(0), (x @ MEASURED[0] + 1).pow(2).mean().sqrt().item()

    default, spread = run(S.dps(reward, data_std=0.7))
    assert (default - tilted.weights).abs().max() < 0.15 and spread == pytest.approx(0.197, abs=0.08)
    published, far = run(S.dps(reward, published=True))
    assert abs(far - 0.197) > 0.08 or (published - tilted.weights).abs().max() > 0.15


def test_cm_solvers_use_the_jump_and_partial_maps_too():
    flow, x, reward = Coarse(diagonal(), 4), randn(3, 2), measurement()

    class ToData:
        only_source, only_target, path = None, 0.0, fm.path.linear

        def __call__(self, x, s, t):
            assert t == 0
            return flow(x, s, t)

    torch.manual_seed(1)
    found = S.cm_solver(reward, 0.3, step=steps.restart)(ToData(), x, 0.8, 0.4)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((-1 - flow(leaf, 0.8, 0.0) @ MEASURED[0]).abs().sum(), leaf)
    torch.manual_seed(1)
    torch.testing.assert_close(found, steps.restart(ToData(), x, 0.8, 0.4) - 0.3 * gradient)


def test_recurrence_keeps_the_marginals_of_an_exact_map():
    """Re-noising and jumping again changes no law; 20000 samples, standard error .007 of a mean."""
    law = fm.exact.Gaussian(0.7, 0.6)
    x = law.path.interpolate(law.sample(20000), torch.randn(20000, 1).double(), 0.8)
    for times in (1, 3):
        y = S.recurred(steps.jump, times)(law, x, 0.8, 0.3)
        assert abs(y.mean() - 0.7 * 0.7) < 0.02 and abs(y.var() - (0.7**2 * 0.36 + 0.09)) < 0.02
    assert torch.equal(S.recurred(steps.jump, 1)(law, x, 0.8, 0.3), law(x, 0.8, 0.3))
    assert not torch.equal(y, law(x, 0.8, 0.3))


def test_universal_guidance_is_a_tilt_forward_and_a_descent_backward():
    mixture, x, reward = three(), randn(3, 2), R.Linear(SLOPE)
    forward = S.universal(reward, 3.0)(mixture, x, 0.6, 0.4)
    expected = steps.euler(S.tilt(mixture, S.value(reward), scale=3.0), x, 0.6, 0.4)
    torch.testing.assert_close(forward, expected)
    backward = S.universal(reward, 0.0, backward=4, rate=0.1)(mixture, x, 0.6, 0.4)
    torch.testing.assert_close(backward, steps.euler(S.descended(mixture, reward, 4, 0.1), x, 0.6, 0.4))
    strong = fm.sample(mixture, noise(200), 20, step=S.universal(reward, 5.0, recurrence=2), seed=0)
    assert reward(strong).mean() > reward(fm.sample(mixture, noise(200), 20, step="euler")).mean() + 1


def test_the_forward_form_at_scale_1_has_the_law_of_a_linear_tilt_nearly():
    """Bed A: E r 1.44657 for a linear reward, whose denoised state errs little. Standard error .03."""
    x = fm.sample(three(), noise(1000), 60, step=S.universal(R.Linear(SLOPE), step=steps.heun))
    assert (x @ SLOPE).mean().item() == pytest.approx(1.44657, abs=0.35)


def test_the_gradient_of_fmrg_e_is_taken_at_the_data():
    flow, x, reward = Coarse(three(), 4), randn(3, 2), R.Linear(SLOPE)
    found = S.fmrg(reward, 0.5, jacobian=False)(flow, x, 0.6, 0.4)
    torch.testing.assert_close(found, flow(x, 0.6, 0.4) + 0.5 * 0.2 * SLOPE)
    scaled = S.fmrg(reward, 0.5, relative=2.0)(flow, x, 0.6, 0.4) - flow(x, 0.6, 0.4)
    speed = flow.velocity(flow(x, 0.6, 0.4), 0.4).norm(dim=1)
    torch.testing.assert_close(scaled.norm(dim=1), 0.5 * 0.2 * 2.0 * speed)


def test_no_correction_below_until():
    flow, x, value = Coarse(three(), 4), randn(3, 2), S.value(R.Linear(SLOPE))
    assert torch.equal(S.corrected(steps.jump, value, until=0.5)(flow, x, 0.6, 0.4), flow(x, 0.6, 0.4))
    assert not torch.equal(S.corrected(steps.jump, value, until=0.4)(flow, x, 0.6, 0.4), flow(x, 0.6, 0.4))


def test_wrong_corrections_are_refused():
    value, reward = S.value(R.Linear(SLOPE)), R.Linear(SLOPE)
    cases = [
        (TypeError, "a value is made by", lambda: S.corrected(steps.jump, reward)),
        (ValueError, "inner must be at least 1", lambda: S.corrected(steps.jump, value, inner=0)),
        (ValueError, r"until must be in \[0, 1\]", lambda: S.corrected(steps.jump, value, until=2.0)),
        (TypeError, "strength must be a number", lambda: S.corrected(steps.jump, value, "1")),
        (ValueError, "inner must be 1", lambda: S.corrected(steps.jump, value, inner=2, at_start=True)),
        (ValueError, "times must be at least 1", lambda: S.recurred(steps.jump, 0)),
        (ValueError, "strength must be positive", lambda: S.dps(measurement(), 0.0)),
        (ValueError, "relative must be positive", lambda: S.fmrg(reward, relative=-1.0)),
        (ValueError, "iterations must be at least 1", lambda: S.descended(three(), reward, iterations=0)),
    ]
    for error, message, wrong in cases:
        with pytest.raises(error, match=message):
            wrong()


class Posterior:
    """A posterior map whose draws are exact."""

    path = fm.path.linear

    def __init__(self, mixture):
        self.mixture = mixture

    def given(self, state, at):
        bound = Posterior(self.mixture)
        bound.law = self.mixture.posterior_of_data(state, at)
        return bound

    def __call__(self, x, s, t):
        return self.law.sample(1)[0]


def test_posterior_maps_sample_the_tilt_without_a_gradient():
    """Bed C by 16 draws: the weights .572, .367, .062 with standard error .02, where r(f) has (.997, .003, 0)."""
    mixture, reward = diagonal(), measurement()
    tilted, log_z = mixture.tilted(reward)
    step = S.meta_flow_map(Posterior(mixture), reward, 16, limit=1e4)
    times = [0.999 * (1 - k / 60) for k in range(60)] + [0.0]
    x = fm.sample(mixture, noise(600), times=times, step=step, seed=2)
    assert (tilted.posterior(x, 0.0).mean(0) - tilted.weights).abs().max() < 0.1
    out = S.diamond(mixture, noise(400), 40, map=Posterior(mixture), reward=reward, n=16, push=0.0, seed=3)
    assert out.log_z.item() == pytest.approx(log_z.item(), abs=0.25)  # standard error .06


def test_weighted_diamond_is_a_tilt_by_renoised_draws_and_right_in_the_limit_of_many():
    """Against the exact value of bed A at t = .3; 4000 draws, standard error .04 of a gradient."""
    mixture, x, reward = three(), randn(2, 2), R.Linear(SLOPE)
    flow, look = Coarse(mixture, 6), L.renoise(4000, 2.0, mixture.log_prob)
    _, truth = S.full(lambda flow, x, t: bed_a().value(x, t), mixture, x, 0.3)
    torch.manual_seed(0)
    _, found = S.full(S.value(reward, look), flow, x, 0.3)
    assert (found - truth).abs().max() < 0.2
    torch.manual_seed(1)
    step = S.weighted_diamond(reward, 6, 2.0, log_prob=mixture.log_prob)(flow, x, 0.5, 0.4)
    torch.manual_seed(1)
    value = S.value(reward, L.renoise(6, 2.0, mixture.log_prob))
    torch.testing.assert_close(step, steps.euler(S.tilt(flow, value), x, 0.5, 0.4))


def test_noise_adapters_give_data_in_one_jump():
    class Adapter:
        def sample(self, y):
            return y + 0.1 * torch.randn(len(y), 1).double()

    law, y = fm.exact.Gaussian(1.0, 0.5), randn(5, 1)
    found = S.variational(law, Adapter(), y, seed=1)
    assert torch.equal(found, S.variational(law, Adapter(), y, seed=1)) and found.shape == (5, 1)
    assert (found - law(y, 1.0, 0.0)).abs().max() < 0.5 * 0.5
    with pytest.raises(TypeError, match="noise adapter"):
        S.variational(law, None, y)
    with pytest.raises(ValueError, match="n must be at least 2"):
        S.meta_flow_map(Posterior(three()), R.Linear(SLOPE), 1)
