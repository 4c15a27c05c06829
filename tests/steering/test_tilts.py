"""Steered velocities against the laws that they claim."""

import warnings

import pytest
import torch

import flowmaps as fm
from flowmaps import steps
from flowmaps.integrations.edm import Preconditioned
from tests.oracles import PATHS, Jumps, randn
from tests.steering.beds import (
    MEASURED,
    SLOPE,
    Draws,
    diagonal,
    exact_value,
    grid,
    measurement,
    noise,
    tensor,
    three,
)

S, R, L = fm.steering, fm.rewards, fm.look
ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def shares(mixture, x):
    """Mean posterior weights of the components of a mixture for samples."""
    return mixture.posterior(x, 0.0).mean(0)


@ALL
@pytest.mark.parametrize("t", [0.02, 0.3, 0.8])
def test_a_linear_tilt_is_a_shift_and_an_isotropic_one_a_change_of_time(path, t):
    mixture, x = three(path), 2 * randn(7, 2)
    linear = R.Linear(SLOPE)
    seen = R.Likelihood(0.7, tensor(0.3, -0.4), 0.6)
    for reward in (linear, seen, R.scaled(linear, 0.5) + seen, R.Likelihood(0.7 * torch.eye(2).double(), seen.y, 0.6)):
        tilted, _ = mixture.tilted(reward)
        found = S.exact_tilt(mixture, reward)
        for name in ("denoise", "velocity"):
            truth = getattr(tilted, name)(x, t)
            torch.testing.assert_close(getattr(found, name)(x, t), truth, rtol=1e-9, atol=1e-9)
    assert torch.equal(S.exact_tilt(mixture, linear).velocity(x, 0.0), mixture.velocity(x, 0.0))


def test_a_linear_tilt_has_the_law_of_the_tilt():
    """3000 samples: standard error of a weight at most .007."""
    mixture = three()
    tilted, _ = mixture.tilted(R.Linear(SLOPE))
    x = fm.sample(S.exact_tilt(mixture, R.Linear(SLOPE)), noise(3000), times=grid(60), step=steps.heun)
    assert (shares(tilted, x) - tilted.weights).abs().max() < 0.03
    torch.testing.assert_close(R.Linear(SLOPE)(x).mean(), tensor(1.44657)[0], atol=0.05, rtol=0)


@pytest.mark.parametrize("path", [PATHS["linear"], PATHS["trigonometric"], PATHS["preserving"]])
def test_the_velocity_with_the_exact_value_is_that_of_the_tilt(path):
    """v - b grad V and f + (sigma^2/alpha) grad V, for both rewards with a closed form."""
    mixture, x = diagonal(path), 2 * randn(7, 2)
    for reward in (R.Linear(SLOPE), measurement()):
        tilted, _ = mixture.tilted(reward)
        found = S.tilt(mixture, exact_value(mixture, reward), limit=1e9)
        for t in (0.05, 0.5, 0.95, torch.linspace(0.1, 0.9, 7).double()):
            torch.testing.assert_close(found.velocity(x, t), tilted.velocity(x, t), rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(found.denoise(x, t), tilted.denoise(x, t), rtol=1e-6, atol=1e-6)


def test_the_ode_with_the_exact_value_samples_the_tilt():
    """3000 samples: standard error of a weight at most .007; the spec's bed A."""
    mixture = three()
    reward = R.Linear(SLOPE)
    tilted, _ = mixture.tilted(reward)
    flow = S.tilt(mixture, exact_value(mixture, reward), limit=1e4)
    x = fm.sample(flow, noise(3000), times=grid(60), step="heun")
    assert (shares(tilted, x) - tilted.weights).abs().max() < 0.03


@pytest.mark.parametrize("time", [0.3, 1.0])
def test_strength_0_is_the_flow(time):
    mixture, x = three(), randn(5, 2)
    value = S.value(R.Linear(SLOPE))
    assert torch.equal(S.tilt(mixture, value, scale=0.0).velocity(x, time), mixture.velocity(x, time))
    assert torch.equal(S.corrected(steps.jump, value, 0.0)(mixture, x, 0.5, 0.2), mixture(x, 0.5, 0.2))
    nothing = S.tilt(mixture, S.value(R.scaled(R.Linear(SLOPE), 0.0)))
    torch.testing.assert_close(nothing.velocity(x, time), mixture.velocity(x, time))
    states = fm.sample(S.tilt(mixture, value, scale=0.0), x, 8, step="heun")
    assert torch.equal(states, fm.sample(mixture, x, 8, step="heun"))


@ALL
def test_b_is_the_rate_of_the_noising_sde(path):
    """sigma sigma' - sigma^2 alpha'/alpha = (alpha^2/2) d(sigma^2/alpha^2)/dt, by differences; t/(1 - t) if linear."""
    t, h = torch.linspace(0.1, 0.9, 5).double()[:, None], 1e-6

    def ratio(u):
        return (path.sigma(u) / path.alpha(u)) ** 2

    difference = path.alpha(t) ** 2 * (ratio(t + h) - ratio(t - h)) / (4 * h)
    torch.testing.assert_close(path.noising_rate(t), difference, rtol=1e-5, atol=1e-7)
    ends = path.noising_rate(tensor(0.0, 1.0), 25.0)
    assert ends.isfinite().all() and ends[0] < 1e-4 + 0.5 * (path == PATHS["preserving"])


FAR = {"exploding": fm.path.VarianceExploding(80.0), "edm": Preconditioned(80.0, 1.0)}


@pytest.mark.parametrize("path", [*PATHS.values(), *FAR.values()], ids=[*PATHS, *(f"far {name}" for name in FAR)])
def test_the_limit_of_b_is_a_noise_level_the_same_on_every_path(path):
    """Above sigma/alpha = 25 the rate, in units of the noise level, grows no longer in proportion to it."""
    t = torch.linspace(0.05, 0.999, 40).double()
    level = path.sigma(t) / path.alpha(t)
    share = (path.noising_rate(t, 25.0) / path.noising_rate(t)).clamp(max=1)
    torch.testing.assert_close(share, (25 / level).clamp(max=1))
    linear = fm.path.linear.noising_rate(t, 25.0)
    torch.testing.assert_close(linear, (t / (1 - t)).clamp(max=25))


@pytest.mark.parametrize("look", [L.denoise, L.jump()], ids=["denoise", "jump"])
@pytest.mark.parametrize("path", [PATHS["trigonometric"], fm.path.VariancePreserving(), *FAR.values()])
def test_a_tilt_with_its_defaults_has_one_law_on_paths_of_any_scale(path, look):
    """N(0, 1) with the reward x is N(1, 1); 0.02 is lost above the limit. Antithetic noise makes the mean exact.

    On the far exploding path a limit in absolute units gives .25, and jumps that are multiplied with alpha(t) give 3.9.
    """
    law = fm.exact.Gaussian(0.0, 1.0, path=path)
    levels = torch.cat([torch.logspace(1.9, -3, 120), torch.zeros(1)]).double()
    times = [min(float(t), 0.9999) for t in path.time_of(torch.ones_like(levels), levels)]
    flow, z = S.tilt(law, S.value(R.Linear(tensor(1.0)), look)), randn(50, 1)
    x = fm.sample(flow, torch.cat([z, -z]), times=times, step="heun")
    assert abs(x.mean() - 0.98) < 0.01


def test_the_scale_multiplies_the_change_of_the_velocity():
    mixture, x, value = three(), randn(4, 2), S.value(R.Linear(SLOPE))
    v = mixture.velocity(x, 0.4)
    once, thrice = (S.tilt(mixture, value, scale=scale).velocity(x, 0.4) - v for scale in (1.0, 3.0))
    torch.testing.assert_close(thrice, 3 * once)
    stepped = S.tilted(steps.euler, value, scale=3.0)(mixture, x, 0.4, 0.3) - steps.euler(mixture, x, 0.4, 0.3)
    torch.testing.assert_close(stepped, -0.3 * once)


SHARES = tensor(0.5716, 0.3665, 0.0619)


def steered(look, gradient=None, n=1000, count=60, step=steps.heun):
    """Shares of bed C's posterior components, and sd(a.x), of samples of a steered ODE."""
    mixture, reward = diagonal(), measurement()
    flow = S.tilt(mixture, S.value(reward, look), gradient=gradient or S.full, limit=1e4)
    x = fm.sample(flow, noise(n), times=grid(count), step=step, seed=1)
    tilted, _ = mixture.tilted(reward)
    return shares(tilted, x), (x @ MEASURED[0] + 1).pow(2).mean().sqrt().item()


@pytest.mark.parametrize("look, expected", [
    (L.moments(stopped=False), tensor(0.550, 0.384, 0.066)), (L.moments(), tensor(0.541, 0.373, 0.086)),
], ids=["moments", "mmps"])  # fmt: skip
def test_a_gaussian_with_the_posterior_moments_samples_the_posterior_nearly(look, expected):
    """Standard error .016; the published MMPS leaves the derivative of the covariance out."""
    found, spread = steered(look)
    assert (found - expected).abs().max() < 0.065 and spread == pytest.approx(0.197, abs=0.02)
    assert (found - SHARES).abs().max() < 0.09


def test_a_point_as_look_ahead_fails_on_a_sharp_reward():
    """The negative control: one mode is left, with a spread of .009 where .197 is right."""
    found, spread = steered(L.denoise)
    assert found[0] > 0.97 and spread < 0.02
    assert spread < 0.2 * 0.197


def test_draws_without_gradient_sample_the_posterior_and_few_of_them_widen_it():
    """Standard error .016 at 1000 samples, 200 steps; sd(a.x) is .197 for the posterior, .220 at n = 32."""
    mixture = diagonal()
    found, spread = steered(Draws(mixture, 32), S.free, count=100, step=steps.euler)
    assert (found - SHARES).abs().max() < 0.06 and 0.19 < spread < 0.27
    _, wide = steered(Draws(mixture, 4), S.free, count=100, step=steps.euler)
    assert wide > 0.4


@pytest.mark.slow
def test_with_a_gradient_the_error_falls_with_the_number_of_draws():
    """On a sharp reward the gradient-free form is far better at the same number of draws."""
    one, four = (steered(L.glass(n, 4), n=300, count=40, step=steps.euler)[0] for n in (1, 8))
    assert (one - SHARES).abs().sum() > (four - SHARES).abs().sum() + 0.01
    free, _ = steered(L.glass(8, 8), S.free, n=300, count=40, step=steps.euler)
    assert (free - SHARES).abs().sum() < (four - SHARES).abs().sum() - 0.1


def closed_form(strength, a, until=None):
    """The sd of FMRG's samples of N(0, 1) with r = -(a/2)(x - m)^2."""
    end = -torch.pi / 4 if until is None else torch.atan(tensor(2 * until - 1)).item()
    return float(torch.exp(tensor(-strength * a * (torch.pi / 4 - end))))


def test_the_annealed_jump_has_the_closed_form_and_b_alone_collapses():
    """N(0, 1), r = -(x - 2)^2/2: sd e^(-pi/4) with anneal * b = t, .0101 for b alone from t = .99."""
    normal = fm.exact.Gaussian(0.0, 1.0)

    def reward(x0):
        return -((x0[:, 0] - 2) ** 2) / 2

    x = tensor([-1.0], [1.0])

    def sd(value, start):
        flow = S.tilt(normal, value, limit=1e9)
        low, high = fm.sample(flow, x * (start**2 + (1 - start) ** 2) ** 0.5, times=grid(250, start), step="heun")[:, 0]
        return float(high - low) / 2

    assert sd(S.value(reward, L.jump()), 0.99995) == pytest.approx(0.455938, abs=1e-4)
    assert sd(S.value(reward, L.jump(), anneal=lambda t: 1.0), 0.99) == pytest.approx(0.0101, abs=1e-3)
    assert 1 / 2**0.5 > 0.7  # the tilted law's


def test_values_compose_with_guidance_inside_and_with_conditions():
    """A guided flow map is steered by its own guided denoiser, in batches that do not couple rows."""
    torch.manual_seed(0)
    network = fm.networks.MLP(shape=(2,), classes=4, width=16, depth=1)
    flow = fm.FlowMap(network).double()
    guided = fm.guidance.classifier_free(flow, 2.0, null={"label": 3})
    label, x = torch.tensor([0, 1, 2]), randn(3, 2)
    value = S.value(R.Linear(SLOPE) * 2)
    told = S.tilt(guided, value).given(label=label)
    leaf = x.requires_grad_()
    (gradient,) = torch.autograd.grad((2 * guided.given(label=label).denoise(leaf, 0.4) @ SLOPE).sum(), leaf)
    expected = guided.given(label=label).velocity(x, 0.4) - 0.4 / 0.6 * gradient
    torch.testing.assert_close(told.velocity(x.detach(), 0.4), expected.detach())
    single = S.tilt(guided, value).given(label=label[1:2]).velocity(x.detach()[1:2], 0.4)
    torch.testing.assert_close(told.velocity(x.detach(), 0.4)[1:2], single)
    found = fm.sample(S.tilt(guided, value), x.detach(), 3, step="euler", condition=label)
    assert found.shape == x.shape and not found.requires_grad
    assert all(weight.grad is None for weight in network.parameters())


def test_a_tilt_is_a_teacher():
    """Of every row's own time, and of the same velocity as when it is sampled."""
    mixture = three()
    teacher = S.tilt(mixture, S.value(R.Linear(SLOPE)))
    x, t = randn(4, 2), torch.tensor([0.2, 0.4, 0.6, 0.8]).double()
    rows = torch.cat([teacher.velocity(x[k : k + 1], float(t[k])) for k in range(4)])
    torch.testing.assert_close(teacher.velocity(x, t[:, None]), rows)
    student = fm.FlowMap(fm.networks.MLP(shape=(2,), width=8, depth=1)).double()
    for method in (fm.methods.lmd(teacher), fm.methods.emd(teacher), fm.methods.cd(teacher)):
        loss = method.loss(student, three().sample(8))
        loss.value.backward()
        assert loss.value.isfinite()


def test_weights_of_a_tilted_flow_can_be_constants():
    """A teacher has constant weights too; gradients still pass through the state."""
    flow, x = fm.FlowMap(fm.networks.MLP(shape=(2,), width=8, depth=1)).double(), randn(3, 2).requires_grad_()
    for weight in flow.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    for make in (lambda f: S.tilt(f, S.value(R.Linear(SLOPE))), lambda f: S.exact_tilt(f, R.Linear(SLOPE))):
        for teacher, learns in ((make(flow), True), (make(flow).with_constant_weights(), False)):
            flow.zero_grad()
            (gradient,) = torch.autograd.grad(teacher.velocity(x, 0.5).sum(), x, retain_graph=True)
            teacher.velocity(x, 0.5).sum().backward()
            assert gradient.any() and any(weight.grad is not None for weight in flow.parameters()) == learns


def test_a_tilt_can_be_differentiated_again():
    """A rule may differentiate a teacher in its state: no gradient is cut off in silence."""
    mixture, reward = three(), measurement()
    teacher = S.tilt(mixture, S.value(reward, L.widened()))
    x = randn(2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: teacher.velocity(x, 0.6), (x,))


def test_units_rewards_see_data_in_their_units():
    """A flow of standardised data: the reward and the measurement are in the units of the data."""
    standard = three()
    flow = fm.FlowMap(Jumps(standard))
    flow.units = fm.Units((2.0, -1.0), (3.0, 0.5))
    plain = fm.FlowMap(Jumps(standard))
    x = randn(4, 2)
    scale, offset = tensor(3.0, 0.5), tensor(2.0, -1.0)
    pairs = [
        (R.Linear(SLOPE), lambda z: (z * scale + offset) @ SLOPE, L.denoise),
        (measurement(), lambda z: measurement()(z * scale + offset), L.denoise),
        (measurement(), R.Likelihood(MEASURED * scale, tensor(-1.0) - offset @ MEASURED[0], 0.2), L.widened(0.5)),
    ]
    for reward, same, look in pairs:
        found = S.tilt(flow, S.value(reward, look)).velocity(x, 0.5)
        torch.testing.assert_close(found, S.tilt(plain, S.value(same, look)).velocity(x, 0.5))
        again = S.tilt(flow, S.value(reward, look)).standardised()
        assert again.units is None
        torch.testing.assert_close(again.velocity(x, 0.5), found)
    moved = S.descended(flow, R.Linear(SLOPE), 3)
    torch.testing.assert_close(moved.standardised().velocity(x, 0.5), moved.velocity(x, 0.5))
    steered = fm.sample(S.tilt(flow, S.value(R.Linear(SLOPE))), x, 4, step="euler")
    plainly = fm.sample(S.tilt(plain, S.value(pairs[0][1])), x, 4, step="euler")
    torch.testing.assert_close(steered, plainly * scale + offset)


def test_an_exact_tilt_of_standardised_data():
    """Data 2 + 3 z: the linear reward and the likelihood of a x0 are those of z; other spreads leave the linear one."""
    standard = three()
    for std in ((3.0, 3.0), (3.0, 0.5)):
        flow, plain, x = fm.FlowMap(Jumps(standard)), fm.FlowMap(Jumps(standard)), randn(4, 2)
        flow.units = fm.Units((2.0, -1.0), std)
        scale, offset = tensor(*std), tensor(2.0, -1.0)
        found = S.exact_tilt(flow, R.Linear(SLOPE))
        same = S.exact_tilt(plain, R.Linear(scale * SLOPE))
        torch.testing.assert_close(found.velocity(x, 0.5), same.velocity(x, 0.5))
        assert found.standardised().units is None
        torch.testing.assert_close(found.standardised().velocity(x, 0.5), found.velocity(x, 0.5))
        drawn = fm.sample(found, x, 4, step="euler")
        torch.testing.assert_close(drawn, fm.sample(same, x, 4, step="euler") * scale + offset)
        seen = S.exact_tilt(flow, R.Likelihood(0.7, tensor(0.3, -0.4), 0.6) + R.Linear(SLOPE))
        if std[0] != std[1]:
            with pytest.raises(ValueError, match="standardised by different standard deviations"):
                seen.velocity(x, 0.5)
            continue
        y = R.Likelihood(2.1, tensor(0.3, -0.4) - 0.7 * offset, 0.6) + R.Linear(scale * SLOPE)
        torch.testing.assert_close(seen.velocity(x, 0.5), S.exact_tilt(plain, y).velocity(x, 0.5))


def test_jumps_are_refused():
    flow = S.tilt(three(), S.value(R.Linear(SLOPE)))
    with pytest.raises(ValueError, match=r"no jumps.*step=fm\.steps\.heun"):
        fm.sample(flow, noise(2))
    with pytest.raises(ValueError, match="no jumps"):
        flow(noise(2), 0.5, 0.0)
    assert not hasattr(flow, "average_velocity")


def test_steps_of_a_tilt_need_no_other_flow():
    """`tilted(step, value)` is the step of `tilt(flow, value)`."""
    mixture, value, x = three(), S.value(R.Linear(SLOPE)), noise(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fm.sample(mixture, x, 5, step=S.tilted(steps.ancestral, value), seed=3)
    assert torch.equal(found, fm.sample(S.tilt(mixture, value), x, 5, step="ancestral", seed=3))


@pytest.mark.parametrize("path", [PATHS["linear"], PATHS["trigonometric"]])
def test_backward_guidance_moves_the_denoised_state_uphill(path):
    mixture, x = three(path), randn(4, 2)
    found = S.descended(mixture, R.Linear(SLOPE), iterations=5, rate=0.1, bound=None)
    moved = found.denoise(x, 0.5) - mixture.denoise(x, 0.5)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5), rtol=1e-4, atol=1e-4)  # Adam's steps of a constant
    torch.testing.assert_close(
        path.convert(found.velocity(x, 0.5), x, 0.5, fm.path.velocity, fm.path.data), found.denoise(x, 0.5)
    )
    bounded = S.descended(mixture, R.Linear(100 * SLOPE), iterations=50, rate=0.5).denoise(x, 0.5)
    assert bounded.max() == 1.0
