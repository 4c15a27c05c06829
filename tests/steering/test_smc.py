"""Particles: their weights are right on exact distributions, whatever the look-ahead, the push and the resampling."""

import math
import warnings

import pytest
import torch

import flowmaps as fm
from flowmaps import steps
from flowmaps.steering.smc import effective, systematic
from tests.steering.beds import (
    LINEAR,
    SLOPE,
    TRIGONOMETRIC,
    Coarse,
    Draws,
    diagonal,
    measurement,
    noise,
    right_half,
    ring,
    standard_error,
    tensor,
    three,
)

pytestmark = pytest.mark.slow

S, R, L = fm.steering, fm.rewards, fm.look
LINEAR_REWARD = R.Linear(SLOPE)


def nothing(flow, x, t):
    """The value of a reward that is not known on the way."""
    return x.new_zeros(len(x))


@pytest.mark.parametrize("path", [LINEAR, TRIGONOMETRIC], ids=["linear", "trigonometric"])
def test_a_linear_reward_by_the_denoised_state(path):
    """Bed A: log Z .71894, E r 1.44657. 1500 particles: standard errors .015 and .03; bias of 60 steps .02."""
    out = S.particles(three(path), noise(1500), 60, reward=LINEAR_REWARD, value=S.value(LINEAR_REWARD), seed=1)
    assert out.log_z.item() == pytest.approx(0.71894, abs=0.06)
    assert out.mean(LINEAR_REWARD(out.x)).item() == pytest.approx(1.44657, abs=0.1)
    assert out.ess.shape == (61, 1) and out.ess.min() > 0.5
    torch.testing.assert_close(out.weights.sum(1), tensor(1.0))
    torch.testing.assert_close(out.rewards, LINEAR_REWARD(out.x))
    assert out.kl.item() == pytest.approx(0.72763, abs=0.1)
    resampled = LINEAR_REWARD(out.resampled(seed=3)).mean().item()
    assert resampled == pytest.approx(out.mean(LINEAR_REWARD(out.x)).item(), abs=0.02)


def test_without_a_reward_the_particles_are_the_prior():
    """Weights stay equal and log Z is 0; the samples have the law of the prior. 2000 samples: standard error .012."""
    out = S.particles(three(), noise(2000), 60, reward=R.scaled(LINEAR_REWARD, 0.0), seed=1)
    assert out.log_z.abs().max() < 1e-9 and (out.ess - 1).abs().max() < 1e-9
    shares = three().posterior(out.x, 0.0).mean(0)
    assert (shares - three().weights).abs().max() < 0.06


@pytest.mark.parametrize("kernel", [steps.ancestral, steps.sde(0.5), steps.restart, steps.gamma(0.7)],
                         ids=["ancestral", "sde", "restart", "gamma"])  # fmt: skip
def test_every_kernel_and_look_ahead_estimate_the_same_evidence(kernel):
    """Restarts and gamma steps keep the marginals of an exact map at any number of steps. Standard error .05."""
    flow = Coarse(three(), 4)
    for look in (L.denoise, L.jump(), L.field(lambda t: t / 2), L.widened(0.5)):
        few = kernel in (steps.restart,)
        out = S.particles(
            flow, noise(600), 6 if few else 40, reward=LINEAR_REWARD, value=S.value(LINEAR_REWARD, look), kernel=kernel,
            seed=2,
        )  # fmt: skip
        assert out.log_z.item() == pytest.approx(0.71894, abs=0.2), look


def test_the_flow_map_as_look_ahead_has_no_bias_where_the_integral_has():
    """Bed B: log Z -.50731, P(x1 > 0) .83033. Kernel weights are unbiased at 50 steps."""
    flow, reward = Coarse(ring(5.0, 0.5), 4), right_half
    runs = [S.particles(flow, noise(512, seed=k), 50, reward=reward, value=S.value(reward, L.jump()), push=1.0, seed=k)
            for k in range(4)]  # fmt: skip
    log_z = torch.cat([run.log_z for run in runs])
    right = torch.stack([run.mean((run.x[:, 0] > 0).double()) for run in runs])
    assert log_z.exp().mean().log().item() == pytest.approx(-0.50731, abs=max(4 * standard_error(log_z), 0.1))
    assert right.mean().item() == pytest.approx(0.83033, abs=4 * max(standard_error(right), 0.01))


def test_the_published_integral_of_the_weights_is_biased():
    """The negative control on bed B: Euler steps of the SDE with weights of lambda' r(F), log Z -.629 at 50 steps."""
    mixture, n = ring(5.0, 0.5), 4096
    flow, generator = Coarse(mixture, 6), torch.Generator().manual_seed(0)
    x, log_w, grid = noise(n, seed=1), torch.zeros(n).double(), torch.linspace(1, 0, 51).tolist()
    for s, t in zip(grid, grid[1:], strict=False):
        d = s - t
        with torch.enable_grad():
            leaf = x.requires_grad_()
            r = right_half(flow(leaf, s, 0.0))
            (gradient,) = torch.autograd.grad(r.sum(), leaf)
        x, r = x.detach(), r.detach()
        drift = -mixture.velocity(x, s) + mixture.score(x, s) + (1 - s) * gradient
        log_w = log_w + d * r  # lambda = 1 - t
        x = x + d * drift + (2 * d) ** 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    log_z = (log_w.logsumexp(0) - math.log(n)).item()
    assert log_z < -0.50731 - 0.05


@pytest.mark.parametrize("look, error, ess", [(L.widened(1.0), 0.08, 0.6), (L.moments(stopped=False), 0.08, 0.7)],
                         ids=["widened", "moments"])  # fmt: skip
def test_a_sharp_measurement_by_a_gaussian_look_ahead(look, error, ess):
    """Bed C: log p(y) -1.51519. 1000 particles: standard error .02 of log Z, .016 of a weight."""
    mixture, reward = diagonal(), measurement()
    tilted, log_z = mixture.tilted(reward)
    out = S.particles(mixture, noise(1000), 60, reward=reward, value=S.value(reward, look), seed=4)
    assert out.log_z.item() == pytest.approx(log_z.item(), abs=error) and out.ess.min() > ess
    weights = out.mean(tilted.posterior(out.x, 0.0))[0]
    assert (weights - tilted.weights).abs().max() < 0.07


def test_a_point_as_look_ahead_fails_on_a_sharp_measurement():
    """The negative controls: r(f) far below -2, r(F) worse, both worse than no steering at all."""
    mixture, reward = diagonal(), measurement()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        point = S.particles(mixture, noise(1000), 60, reward=reward, value=S.value(reward), seed=4)
        jump = S.particles(
            Coarse(mixture, 4), noise(400), 60, reward=reward, value=S.value(reward, L.jump()), seed=4, resample=0.0
        )
        none = S.particles(mixture, noise(4000), 60, reward=reward, value=nothing, push=0.0, seed=4)
    assert point.log_z < -2.2 and jump.log_z < -2.5
    assert none.log_z.item() == pytest.approx(-1.51519, abs=0.25)
    assert any("the particles collapsed" in str(one.message) for one in said)


def test_the_default_value_of_a_measurement_is_widened():
    """Particles without a value are right for a likelihood, and follow the denoised state for other rewards."""
    mixture, reward = diagonal(), measurement()
    found = S.particles(mixture, noise(100), 10, reward=reward, seed=4)
    same = S.particles(mixture, noise(100), 10, reward=reward, value=S.value(reward, L.widened()), seed=4)
    assert torch.equal(found.x, same.x)
    found = S.particles(mixture, noise(100), 10, reward=LINEAR_REWARD, seed=4)
    assert torch.equal(found.x, S.particles(mixture, noise(100), 10, reward=LINEAR_REWARD,
                                            value=S.value(LINEAR_REWARD), seed=4).x)  # fmt: skip


def test_the_default_value_of_a_label_has_a_floor():
    """A sure classifier rules out no state on the way."""
    mixture = three()
    reward = R.label(lambda x0: 50 * torch.stack([x0[:, 0], -x0[:, 0]], 1), 0)
    found = S.particles(mixture, noise(100), 10, reward=reward, seed=4)
    same = S.particles(mixture, noise(100), 10, reward=reward, value=S.value(reward, floor=-4.0), seed=4)
    assert torch.equal(found.x, same.x)
    assert torch.equal(found.x, S.tds(mixture, noise(100), 10, reward=reward, floor=-4.0, seed=4).x)


def test_a_classifier_by_draws_of_the_posterior():
    """Bed D: log Z -.98083. With 8 draws the particles are right; the reward of the denoised state is not."""
    mixture = ring(2.0, 0.3)
    chosen = torch.zeros(8).double()
    chosen[[0, 1, 4]] = 1

    def reward(x0):
        return (mixture.posterior(x0, 0.0) @ chosen).clamp(min=1e-12).log()

    value = S.value(reward, Draws(mixture, 8))
    options = {"reward": reward, "push": 0.0, "seed": 5}
    draws = S.particles(mixture, noise(400), 40, value=value, **options)
    assert draws.log_z.item() == pytest.approx(-0.98083, abs=0.2)  # standard error .05
    none = S.particles(mixture, noise(2000), 40, value=nothing, **options)
    assert none.log_z.item() == pytest.approx(-0.98083, abs=0.12)
    point = S.particles(mixture, noise(2000), 40, value=S.value(reward), reward=reward, seed=5)
    assert point.log_z.item() < -1.4 and point.ess.min() < 0.2 and draws.ess.min() > 0.4


def test_the_result_does_not_depend_on_the_push_or_on_resampling():
    """Any push and any resampling are right in expectation: means of Z over runs agree within 4 standard errors."""
    truth = math.exp(0.71894)
    for push in (0.0, 0.5, 1.0, 2.0):
        for resample in (0.0, 0.9):
            groups = 16
            out = S.particles(
                three(), noise(groups * 64, seed=7), 40, reward=LINEAR_REWARD, value=S.value(LINEAR_REWARD), push=push,
                resample=resample, groups=groups, seed=8,
            )  # fmt: skip
            Z = out.log_z.exp()
            assert abs(Z.mean().item() - truth) < 4 * standard_error(Z) + 0.04, (push, resample)  # bias of 40 steps


def test_systematic_resampling_is_unbiased_and_has_the_least_variance():
    """The expected copies are N w; no particle has one more or less than N w rounded."""
    log_w = tensor([0.1, -2.0, 1.0, 0.3, -0.7], [0.0, 0.0, 0.0, 0.0, -9.0])
    expected, copies = 5 * log_w.softmax(1), torch.zeros(2, 5).double()
    for _ in range(4000):
        rows = systematic(log_w).reshape(2, 5)
        assert (rows[0] < 5).all() and (rows[1] >= 5).all()
        found = torch.stack([rows[g].sub(5 * g).bincount(minlength=5) for g in range(2)])
        assert ((found - expected).abs() < 1).all()
        copies += found / 4000
    assert (copies - expected).abs().max() < 4 * 0.5 / 4000**0.5
    torch.testing.assert_close(effective(torch.zeros(1, 7).double()), tensor(7.0))


def test_groups_do_not_compete():
    """A group's particles are those that it has alone, whatever happens in another."""
    strong = torch.cat([torch.ones(50), 5 * torch.ones(50)]).double()

    def reward(x0):
        return strong[: len(x0)] * (x0 @ SLOPE)

    def run(reward):
        return S.particles(three(), noise(100), 12, reward=reward, value=S.value(reward), groups=2, seed=3)

    both, alike = run(reward), run(lambda x0: x0 @ SLOPE)
    assert torch.equal(both.x[:50], alike.x[:50]) and torch.equal(both.log_z[0], alike.log_z[0])
    assert not torch.equal(both.x[50:], alike.x[50:])
    assert both.log_z.shape == (2,) and both.weights.shape == (2, 50) and both.mean(both.x).shape == (2, 2)


def test_particles_are_seeded_and_start_from_the_global_generator_otherwise():
    def run(seed):
        return S.particles(three(), noise(20), 5, reward=LINEAR_REWARD, seed=seed).x

    before = torch.random.get_rng_state()
    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(run(None), run(None))


def test_a_map_in_bfloat16_has_weights_in_float64():
    flow = fm.FlowMap(fm.networks.MLP(shape=(2,), width=8, depth=1)).bfloat16()
    out = S.particles(flow, torch.randn(8, 2).bfloat16(), 4, reward=lambda x0: x0.sum(1), value=nothing, push=0.0)
    assert out.log_weights.dtype == torch.float64 and out.x.dtype == torch.bfloat16


def test_partial_maps_to_data_take_restarts_and_jumps():
    """A consistency model has no velocity; its particles are right too. Standard error .03."""
    whole = Coarse(three(), 6)

    class ToData:
        only_source, only_target, path = None, 0.0, LINEAR

        def __call__(self, x, s, t):
            assert t == 0
            return whole(x, s, t)

    value = S.value(LINEAR_REWARD, L.jump())
    out = S.particles(ToData(), noise(800), 5, reward=LINEAR_REWARD, value=value, kernel=steps.restart, seed=2)
    assert out.log_z.item() == pytest.approx(0.71894, abs=0.12)
    with pytest.raises(ValueError, match="partial flow map has none"):
        S.particles(ToData(), noise(8), 5, reward=LINEAR_REWARD, value=value, seed=2)
    with pytest.raises(ValueError, match="look.denoise needs the velocity"):
        S.particles(ToData(), noise(8), 5, reward=LINEAR_REWARD, kernel=steps.restart, seed=2)


def test_conditions_and_progress():
    flow = fm.FlowMap(fm.networks.MLP(shape=(2,), classes=3, width=8, depth=1))
    label, seen = torch.tensor([0] * 4 + [2] * 4), []
    x = torch.randn(8, 2)
    out = S.particles(flow, x, 3, reward=lambda x0: 0.1 * x0.sum(1), groups=2, condition=label, seed=0,
                      progress=lambda done, total: seen.append((done, total)))  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3)]
    bound = S.particles(flow.given(label=label), x, 3, reward=lambda x0: 0.1 * x0.sum(1), groups=2, seed=0)
    assert torch.equal(out.x, bound.x)


@pytest.mark.filterwarnings("ignore:the particles collapsed")
def test_what_differs_within_a_group_is_refused_because_particles_change_their_rows():
    """Labels, measurements and rewards of one row would meet the state of another in silence."""
    flow = fm.FlowMap(fm.networks.MLP(shape=(2,), classes=3, width=8, depth=1)).double()
    label, x = torch.tensor([0, 0, 1, 1]), noise(4)
    y = torch.tensor([[0.1, 0.2]] * 2 + [[0.3, 0.4]] * 2).double()
    own = {
        "label": R.label(lambda x0: x0, torch.tensor([0, 0, 1, 1])), "measurement": R.Likelihood(1.0, y, 0.8),
        "function": lambda x0: (x0 * y).sum(1), "sum": R.Linear(SLOPE) + 0.5 * R.Likelihood(1.0, y, 0.8),
    }  # fmt: skip
    for reward in own.values():
        with pytest.raises(ValueError, match=r"the reward differs between equal data.*of 4 rows here.*groups="):
            S.particles(three(), x, 3, reward=reward, value=nothing, push=0.0)
        assert S.particles(three(), x, 3, reward=reward, value=nothing, push=0.0, groups=2).x.shape == (4, 2)
        assert S.particles(three(), x, 3, reward=reward, value=nothing, push=0.0, resample=0.0).x.shape == (4, 2)
    for told in ({"condition": label}, {}):
        with pytest.raises(ValueError, match="the condition 'label' differs between particles of one group"):
            S.particles(flow if told else flow.given(label=label), x, 3, reward=R.Linear(SLOPE), **told)
    assert S.particles(flow, x, 3, reward=R.Linear(SLOPE), condition=label, groups=2).x.shape == (4, 2)


def test_collapsed_particles_warn_with_advice():
    with pytest.warns(UserWarning, match=r"effective number fell to 1(\.\d+)? of 50.*Take a better look-ahead"):
        S.particles(three(), noise(50), 5, reward=lambda x0: 1e3 * x0[:, 0], value=nothing, push=0.0, seed=0)


def test_wrong_particles_are_refused():
    mixture, x, reward = three(), noise(6), LINEAR_REWARD
    cases = [
        (TypeError, "need a kernel, a step with moments", {"kernel": steps.euler}),
        (ValueError, "unknown step 'ancestrall'.*did you mean ancestral", {"kernel": "ancestrall"}),
        (TypeError, r"pass gamma\(\.\.\.\)", {"kernel": steps.gamma}),
        (ValueError, "kernel that adds noise", {"kernel": steps.sde(0.0)}),
        (ValueError, "6 particles do not divide into 4 groups", {"groups": 4}),
        (ValueError, r"end at 0\.1", {"times": [1.0, 0.5, 0.1]}),
        (ValueError, "push must be at least 0", {"push": -1.0}),
        (ValueError, r"resample must be in \[0, 1\]", {"resample": 2.0}),
        (TypeError, r"make one of it, fm\.steering\.value\(reward\)", {"value": reward}),
        (TypeError, "a reward is a function", {"reward": 3.0}),
        (ValueError, r"one number for each row, \(6,\), got the shape \(6, 2\)", {"reward": lambda x0: x0}),
        (ValueError, "a reward must be finite", {"reward": lambda x0: x0.sum(1) / 0}),
        (ValueError, "the value must be finite", {"value": lambda f, x, t: x.sum(1) / 0, "push": 0.0}),
        (ValueError, r"value must return one number for each row", {"value": lambda f, x, t: x, "push": 0.0}),
        (ValueError, "has no gradient with respect to the state", {"reward": lambda x0: x0.argmax(1).float()}),
    ]
    for error, message, wrong in cases:
        with pytest.raises(error, match=message):
            S.particles(
                mixture, x, **{"reward": reward, "seed": 0, **({} if "times" in wrong else {"steps": 3}), **wrong}
            )
    with pytest.raises(TypeError, match="noise must be a tensor"):
        S.particles(mixture, 6, 3, reward=reward)


def test_the_recipes_of_particles_are_sentences_of_the_parts():
    mixture, flow = three(), Coarse(three(), 4)
    found = S.tds(mixture, noise(30), 5, reward=LINEAR_REWARD, seed=1)
    assert torch.equal(
        found.x, S.particles(mixture, noise(30), 5, reward=LINEAR_REWARD, value=S.value(LINEAR_REWARD), seed=1).x
    )
    found = S.fmtt(flow, noise(30), 5, reward=LINEAR_REWARD, seed=1)
    same = S.particles(
        flow, noise(30), 5, reward=LINEAR_REWARD, value=S.value(LINEAR_REWARD, L.jump()), kernel=steps.sde(1.0), seed=1
    )
    assert torch.equal(found.x, same.x)
    out = S.fmtt(flow, noise(800), 40, reward=LINEAR_REWARD, seed=1)
    assert out.log_z.item() == pytest.approx(0.71894, abs=0.12)  # standard error .03
    out = S.tds(mixture, noise(800), 40, reward=LINEAR_REWARD, push=math.inf, seed=1)
    assert out.log_z.item() == pytest.approx(0.71894, abs=0.12)


class ByClass:
    """The components of bed A, one for each class: a flow that is conditioned on the class."""

    path = LINEAR

    def __init__(self, label=None):
        self.condition = {} if label is None else {"label": label}

    def given(self, label):
        return ByClass(label)

    def velocity(self, x, t):
        law = three()
        each = [fm.exact.GaussianMixture(tensor(1.0), law.means[k : k + 1], law.stds[k : k + 1]) for k in range(3)]
        found = torch.stack([one.velocity(x, t) for one in each], 1)
        return found[torch.arange(len(x)), self.condition["label"]]

    def denoise(self, x, t):
        return self.path.convert(self.velocity(x, t), x, t, fm.path.velocity, fm.path.data)


def test_particles_carry_their_classes():
    """With joint=True the law that is tilted is the mixture of the classes. 1500 particles: standard error .02."""
    law = fm.exact.GaussianMixture(torch.full((3,), 1 / 3).double(), three().means, three().stds)
    tilted, log_z = law.tilted(LINEAR_REWARD)
    told = {"reward": LINEAR_REWARD, "value": S.value(LINEAR_REWARD), "condition": torch.arange(1500) % 3, "seed": 1}
    out = S.particles(ByClass(), noise(1500), 60, joint=True, resample=0.95, **told)
    assert (out.ess[1:] < out.ess[:-1]).any()
    assert out.log_z.item() == pytest.approx(float(log_z), abs=0.08)
    shares = tilted.posterior(out.resampled(seed=2), 0.0).mean(0)
    assert (shares - tilted.weights).abs().max() < 0.06
    with pytest.raises(ValueError, match="or joint=True"):
        S.particles(ByClass(), noise(1500), 60, **told)
