"""Rules against critics: closed forms of the best critic and of the gradient that it gives, each with a control."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import adversaries
from flowmaps.draws import Rows
from flowmaps.velocity import Pair, conditional, fixed

TIME = 0.4
MEAN = torch.tensor([0.7, -0.3, 0.2], dtype=torch.float64)
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.6, 0.0], [-0.2, 0.3, 0.8]], dtype=torch.float64)
NODES, WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(60))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


class Constant(nn.Module):
    """A constant velocity."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value.clone())

    def forward(self, x, s, t):
        return self.value.expand_as(x)


class Affine(nn.Module):
    """D(x, t) = a . x + b t."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x, t):
        return x @ self.weights[:-1] + t * self.weights[-1]


def velocities():
    """Pairs through one state x_t, whose velocities have mean MEAN and covariance S = ROOT ROOT' exactly."""
    root = math.sqrt(3) * ROOT.T
    u = MEAN + torch.cat([root, -root])
    x = torch.tensor([0.3, 0.1, -0.5], dtype=torch.float64).expand(6, 3)
    s = torch.full((6, 1), TIME, dtype=torch.float64)
    pair = Pair(x - TIME * u, x + (1 - TIME) * u, fm.path.linear, {}, rows=Rows().of_batch(6))
    return conditional(None, pair), x, s


def critic_of(velocity, timed=True):
    """The weights (a, b) that minimise the critic's quadratic loss."""
    teacher, x, s = velocities()
    flow = fm.FlowMap(Constant(velocity))

    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    critic = lambda x, t: x @ weights[:3] + timed * t * weights[3]  # noqa: E731
    found = adversaries.discriminate_velocities(flow, teacher, x, s, s, discriminator=critic, centring=0.0)
    (slope,) = torch.autograd.grad(found["discriminator"].mean(), weights, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(one, weights, retain_graph=True)[0] for one in slope])
    return -torch.linalg.lstsq(curvature, slope.detach()[:, None], driver="gelsd").solution[:, 0]


def test_the_best_critic_of_velocities_is_the_closed_form():
    """With d = m - v and q = d' S^-1 d: dD/dx = S^-1 d / (1 + q/2) and D'(v) = -q/(2 + q); flat at v = m."""
    v = torch.tensor([-0.1, 0.4, 0.6], dtype=torch.float64)
    pull = torch.linalg.solve(ROOT @ ROOT.T, MEAN - v)
    q = (MEAN - v) @ pull
    weights = critic_of(v)
    torch.testing.assert_close(weights[:3], pull / (1 + q / 2), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(weights[:3] @ v + weights[3], -q / (2 + q), rtol=1e-10, atol=1e-10)
    assert critic_of(MEAN).abs().max() < 1e-10
    still = critic_of(v, timed=False)  # control: a critic without a rate in time has another optimum
    assert abs(still[:3] @ v + q / (2 + q)) > 0.1


def test_the_flow_follows_the_best_critic_of_velocities_towards_the_mean():
    """The gradient of (D'(v) - 1)^2 is 2 (D'(v) - 1) dD/dx, along -S^-1 (m - v); no gradient reaches the critic."""
    v = torch.tensor([-0.1, 0.4, 0.6], dtype=torch.float64)
    critic, flow = Affine(critic_of(v)), fm.FlowMap(Constant(v))
    teacher, x, s = velocities()
    rule = partial(adversaries.deceive_velocity, flow, teacher, x, s, s, discriminator=critic)
    losses = rule(transport=0.0)
    losses["adversarial"].mean().backward()
    pull = torch.linalg.solve(ROOT @ ROOT.T, MEAN - v)
    q = (MEAN - v) @ pull
    wanted = 2 * (-q / (2 + q) - 1) * pull / (1 + q / 2)
    torch.testing.assert_close(flow.network.value.grad, wanted, rtol=1e-10, atol=1e-10)
    assert critic.weights.grad is None and "transport" not in losses
    torch.testing.assert_close(losses["margin"].mean(), 2 * q / (2 + q))  # E D'(u) = D'(m) = q/(2 + q)
    torch.testing.assert_close(rule(transport=0.5)["transport"].mean(), 0.5 * v.square().mean())


class Ratio(nn.Module):
    """log p/q of two normal laws in one dimension, plus small functions whose weights are zero."""

    def __init__(self, p, q):
        super().__init__()
        self.laws, self.more = (p, q), nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x, t):
        (m, a), (n, b) = self.laws
        ratio = math.log(b / a) + ((x - n) / b).square() / 2 - ((x - m) / a).square() / 2
        return (ratio + torch.cat([x.sin(), x, (-x.square()).exp()], 1) @ self.more[:, None])[:, 0]


class Scaling(nn.Module):
    """The jump z -> m + a z from noise, as an average velocity."""

    def __init__(self, mean, std):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([mean, std], dtype=torch.float64))

    def forward(self, x, s, t):
        return x - self.weights[0] - self.weights[1] * x


def scaled(p, q):
    """All pairs of data of N(p) and noise at quadrature nodes, with their weights, and a map to N(q)."""
    data, noise = torch.meshgrid(p[0] + p[1] * NODES, NODES, indexing="ij")
    x0, eps = data.reshape(-1, 1), noise.reshape(-1, 1)
    pair = Pair(x0, eps, fm.path.linear, {}, rows=Rows().of_batch(len(x0)))
    one = torch.ones_like(x0)
    weight = torch.outer(WEIGHTS, WEIGHTS).reshape(-1, 1)
    return fm.FlowMap(Scaling(*q)), conditional(None, pair), (eps, one, 0 * one), weight


NOTHING = torch.zeros(1, 1, dtype=torch.float64)
TRUTH, WRONG = (0.3, 0.8), (-0.1, 1.1)


def jumps(flow, teacher, at, D):
    """The losses of critic and flow in adversarial flow models, without penalties and transport."""
    options = {"noise": NOTHING, "penalty": 0.0, "spread": 1.0, "centring": 0.0}
    critic = adversaries.discriminate(flow, teacher, *at, discriminator=D, **options)
    return critic["discriminator"], adversaries.deceive(flow, teacher, *at, discriminator=D, transport=0.0)[
        "adversarial"
    ]


def samples(flow, teacher, at, D):
    """The logistic losses of critic and flow, of clean samples, without a penalty."""
    options = {"game": adversaries.logistic, "level": NOTHING, "noise": NOTHING, "discriminator": D}
    critic = adversaries.discriminate_noised(flow, teacher, *at, nearby=NOTHING, penalty=0.0, spread=1.0, **options)
    return critic["discriminator"], adversaries.deceive_noised(flow, teacher, *at, **options)


@pytest.mark.parametrize("losses", [jumps, samples])
def test_the_best_critic_is_the_log_ratio_and_leads_the_flow_to_the_truth(losses):
    """The critic's loss is stationary at log p/q. A wrong map is led to smaller errors of mean and scale, and the map
    with the law of data, where log p/q is flat, has no gradient. Control: the inverse ratio does neither."""
    for law, ratio in ((WRONG, (TRUTH, WRONG)), (TRUTH, (TRUTH, TRUTH)), (WRONG, (WRONG, TRUTH))):
        flow, teacher, at, weight = scaled(TRUTH, law)
        D, weights = Ratio(*ratio), flow.network.weights
        of_critic, of_flow = ((weight * loss).sum() for loss in losses(flow, teacher, at, D))
        slope, none = torch.autograd.grad(of_critic, (D.more, weights), allow_unused=True, materialize_grads=True)
        pull, still = torch.autograd.grad(of_flow, (weights, D.more), allow_unused=True, materialize_grads=True)
        assert not none.any() and not still.any()
        assert (slope.abs().max() < 1e-8) == (ratio[0] == TRUTH)
        way = torch.tensor(TRUTH).double() - torch.tensor(law).double()
        if law == TRUTH:
            assert pull.abs().max() < 1e-12
        else:
            assert bool((pull * way < 0).all()) == (ratio[0] == TRUTH) and pull.abs().min() > 0.02


def test_the_slope_along_small_noise_is_the_gradient_penalty_to_first_order():
    """Its mean over the noise is |grad D|^2 + O(spread^2): half the spread gives a quarter of the error."""
    x = torch.tensor([[0.4, -0.8]], dtype=torch.float64)
    D = lambda z: (z.sin().sum(1) + z.prod(1))[:, None]  # noqa: E731
    _, wanted = adversaries.logits_and_slope(D, x)
    noise = torch.stack(torch.meshgrid(NODES, NODES, indexing="ij"), -1).reshape(-1, 2)
    weight = torch.outer(WEIGHTS, WEIGHTS).reshape(-1, 1)
    here = x.expand(len(noise), 2)
    errors = [
        ((weight * adversaries.slope_by_noise(D, here, D(here), noise, spread)).sum() - wanted.item()).item()
        for spread in (0.02, 0.01)
    ]
    assert abs(errors[1]) < 1e-3 * wanted.item() and errors[0] / errors[1] == pytest.approx(4, rel=1e-3)
    with pytest.raises(TypeError, match="needs float32 or float64 states"):
        adversaries.slope_by_noise(D, x.bfloat16(), D(x), noise, 0.01)


def test_the_distance_from_the_denoiser_narrows_the_right_law():
    """At N(m, a^2), whose denoiser is f: no pull on the mean, and 2 (1 - l) E Var(x_0 | x_l) / a on the scale."""
    mean, std = TRUTH
    teacher = fixed(fm.exact.Gaussian([mean], [std]))
    for level in (0.3, 0.7):
        flow, data, (x, s, t), weight = scaled(TRUTH, TRUTH)
        noise, time = (data.pair.x0 - mean) / std, torch.full_like(x, level)  # the other axis of the quadrature
        found = adversaries.deceive_and_follow(
            flow, teacher(flow, data.pair), x, s, t, discriminator=Ratio(TRUTH, TRUTH), data=data,
            game=adversaries.hinge, level=time, noise=noise, strength=1.0,
        )  # fmt: skip
        assert not found["adversarial"].any()
        (pull,) = torch.autograd.grad((weight * found["distillation"]).sum(), flow.network.weights)
        variance = 1 / (1 / std**2 + ((1 - level) / level) ** 2)
        torch.testing.assert_close(pull, torch.tensor([0.0, 2 * (1 - level) * variance / std]).double())


def test_the_hinge_losses_stop_beyond_the_margin():
    real, fake = torch.tensor([[2.0], [0.5]]), torch.tensor([[-2.0], [0.5]])
    assert adversaries.hinge.critic(real, fake).flatten().tolist() == [0.0, 2.0]
    assert adversaries.hinge.flow(fake).flatten().tolist() == [2.0, -0.5]


def test_wrong_logits_are_refused():
    teacher, x, s = velocities()
    flow = fm.FlowMap(Constant(MEAN))
    options = {"centring": 0.0}
    for critic, message in (
        (lambda x, t: x.sum(), r"a critic returns logits \(6,\) or \(6, n\) for 6 states, got \(\)"),
        (lambda x, t: x, "a critic of velocities returns one logit for each row, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            adversaries.discriminate_velocities(flow, teacher, x, s, s, discriminator=critic, **options)
