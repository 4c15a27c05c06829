"""Rules of score differences: closed forms by quadrature, identities, fixed points, and where gradients go."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import score_matching as scores
from flowmaps.methods.moment_matching import follow_moments, match_moments
from flowmaps.path import linear
from flowmaps.velocity import conditional

M2 = fm.exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0], [1.0]]).double(), [0.3, 0.4])
LEVEL = 0.4


class Affine(nn.Module):
    """V(x, s, t) = x - (m + c x), whose jump from noise to data is m + c x."""

    def __init__(self, mean, std):
        super().__init__()
        self.law = nn.Parameter(torch.tensor([mean, std], dtype=torch.float64))

    def forward(self, x, s, t):
        return x - self.law[0] - self.law[1] * x


def generator(mean=0.2, std=0.6):
    """The one-jump map of N(mean, std^2), and the exact law of its samples."""
    return fm.FlowMap(Affine(mean, std)), fm.exact.Gaussian([mean], [std])


def quadrature(size=120):
    """Points (z, n) of two standard normal numbers, (size^2, 1) each, and their weights."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(size))
    z, n = (grid.reshape(-1, 1) for grid in torch.meshgrid(nodes, nodes, indexing="ij"))
    return z, n, (weights[:, None] * weights).reshape(-1, 1) / (2 * math.pi)


def mean_gradient(rule, flow, teacher, auxiliary, level=LEVEL, **options):
    """The expected gradient of a rule at noise level `level`, by (mean, std), exactly."""
    z, n, weights = quadrature()
    one, zero, levels = (torch.full_like(z, t) for t in (1.0, 0.0, level))
    loss = rule(flow, teacher, z, one, zero, noise=n, level=levels, auxiliary=auxiliary, **options)
    return torch.autograd.grad((weights * loss).sum(), flow.network.law)[0]


def unit(sample, denoised, level, path):
    return torch.ones_like(level)


def by_logs(measure):
    """The gradient by (mean, std) of a measure of the student's law, by autograd through its density."""
    law = torch.tensor([0.2, 0.6], dtype=torch.float64, requires_grad=True)
    z, _, weights = quadrature()
    mean, std = (1 - LEVEL) * law[0], (((1 - LEVEL) * law[1]) ** 2 + LEVEL**2).sqrt()
    x = mean + std * z
    score = -(x - mean) / std**2
    return torch.autograd.grad((weights * measure(x, std, z, score)).sum(), law)[0]


def test_dmd_follows_the_gradient_of_kl():
    """Spec A8: with alpha^2/sigma^2 for the factor; and by autograd through KL itself. The normaliser is no such."""
    flow, law = generator()
    found = mean_gradient(scores.match, flow, M2, law, factor=scores.by_level)
    assert torch.allclose(found, torch.tensor([-0.21766, -0.44523]).double(), atol=1e-5)
    log_q = lambda x, std, z, score: -std.log() - z**2 / 2 - M2.log_prob(x, LEVEL)[:, None]  # noqa: E731
    assert torch.allclose(found, by_logs(log_q), atol=1e-9)
    assert not torch.allclose(mean_gradient(scores.match, flow, M2, law), found, atol=0.05)


def test_sid_of_one_half_is_half_the_fisher_divergence_and_others_are_not():
    """Spec A9: E |d|^2 in value and gradient; alpha = 1 has the value 0, and a gradient of another direction."""
    flow, law = generator()
    half, whole = (mean_gradient(scores.identify, flow, M2, law, alpha=a, factor=unit) for a in (0.5, 1.0))
    fisher = by_logs(lambda x, std, z, score: (M2.denoise(x, LEVEL) - denoiser_of(x, score)).square())
    assert torch.allclose(fisher, torch.tensor([-0.12961, -0.42281]).double(), atol=1e-5)
    assert torch.allclose(half, fisher / 2, atol=1e-6)
    assert abs(whole[0] / whole[1] - fisher[0] / fisher[1]) > 0.05
    z, n, weights = quadrature()
    x = 0.2 + 0.6 * z
    x_l = linear.interpolate(x, n, LEVEL)
    d = M2.denoise(x_l, LEVEL) - law.denoise(x_l, LEVEL)
    assert abs(float((weights * (d * (M2.denoise(x_l, LEVEL) - x) - d**2)).sum())) < 1e-9  # alpha = 1


def denoiser_of(x, score):
    return (x + LEVEL**2 * score) / (1 - LEVEL)


@pytest.mark.parametrize("name", ["match", "match_beside", "judged", "identify"])
def test_the_right_generator_is_a_fixed_point_and_a_wrong_one_is_not(name):
    """With the exact denoiser of its samples: each row's gradient is zero at the teacher's own map."""
    rule = {
        "match": scores.match,
        "match_beside": lambda *a, **k: scores.match_beside(*a, **k)["distribution"],
        "judged": lambda *a, **k: scores.match(*a, judge=M2, divergence=scores.forward_kl, **k),
        "identify": lambda *a, **k: scores.identify(*a, alpha=0.7, **k),
    }[name]
    teacher = fm.exact.Gaussian([0.2], [0.6])
    for right, (flow, law) in ((True, generator()), (False, generator(0.3)), (False, generator(std=0.9))):
        slopes = [mean_gradient(rule, flow, teacher, law, level).abs().max() for level in (0.1, 0.5, 0.9)]
        assert max(slopes) < 1e-12 if right else min(slopes) > 1e-3


def test_a_ratio_of_reverse_kl_is_dmd_and_others_weigh_rows():
    flow, law = generator()
    plain = mean_gradient(scores.match, flow, M2, law)
    assert torch.equal(plain, mean_gradient(scores.match, flow, M2, law, judge=law))
    assert not torch.allclose(
        plain, mean_gradient(scores.match, flow, M2, law, judge=law, divergence=scores.forward_kl), atol=0.01
    )


class LogRatio:
    """A judge whose logit is the exact log(p_l/q_l)."""

    def __init__(self, data, samples):
        self.data, self.samples = data, samples

    def velocity(self, x, level):
        return (self.data.log_prob(x, LEVEL) - self.samples.log_prob(x, LEVEL))[:, None]


def test_f_distill_follows_the_gradient_of_its_divergence():
    """Forward KL at the exact ratio, against autograd through E_p log(p/q); too narrow bounds are a control."""
    flow, law = generator()
    options = {"judge": LogRatio(M2, law), "divergence": scores.forward_kl, "factor": scores.by_level}
    found = mean_gradient(scores.match, flow, M2, law, bounds=(1e-9, 1e9), **options)
    assert torch.allclose(found, kl_from_data(), atol=1e-3)
    assert not torch.allclose(mean_gradient(scores.match, flow, M2, law, bounds=(0.9, 1.1), **options), found, atol=0.1)


def kl_from_data():
    """The gradient of E_p -log q by (mean, std) of the student, on a fine grid."""
    law = torch.tensor([0.2, 0.6], dtype=torch.float64, requires_grad=True)
    x = torch.linspace(-6, 6, 20_001).double()
    mean, std = (1 - LEVEL) * law[0], (((1 - LEVEL) * law[1]) ** 2 + LEVEL**2).sqrt()
    p = M2.log_prob(x[:, None], LEVEL).exp()
    cross = (p * (std.log() + ((x - mean) / std) ** 2 / 2)).sum() * (x[1] - x[0])
    return torch.autograd.grad(cross, law)[0]


@pytest.mark.parametrize(
    ("h", "f"),
    [
        (scores.reverse_kl, lambda r: -r.log()),
        (scores.forward_kl, lambda r: r * r.log()),
        (scores.jeffreys, lambda r: (r - 1) * r.log()),
        (scores.jensen_shannon, lambda r: r * r.log() - (1 + r) * ((1 + r) / 2).log()),
        (scores.squared_hellinger, lambda r: (1 - r.sqrt()) ** 2),
    ],
    ids=["reverse_kl", "forward_kl", "jeffreys", "jensen_shannon", "squared_hellinger"],
)
def test_h_is_the_curvature_of_its_divergence(h, f):
    r = torch.linspace(0.2, 5, 9).double().requires_grad_()
    (slope,) = torch.autograd.grad(f(r).sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    assert torch.allclose(h(r), r**2 * curvature)


def moment_gradient(factor, teacher, data=0.8, s=0.7, r=0.5):
    """The expected gradient of `match_moments` with f(x, s) = factor x, and with f_A the exact mean E[y | x_r]."""
    z, n, weights = quadrature(40)
    x = math.sqrt((1 - s) ** 2 * data**2 + s**2) * z
    flow = Scaled(factor)
    mean, std = linear.posterior(x, factor * x, s, r)
    x_r = mean + std * n
    slope = float((weights * factor * x * x_r).sum() / (weights * x_r**2).sum())
    loss = match_moments(
        flow, teacher, x, *(torch.full_like(x, s),) * 2, noise=n, gap=torch.full_like(x, s - r), auxiliary=Scaled(slope)
    )
    return float(torch.autograd.grad((weights * loss).sum(), flow.factor)[0]), slope


class Scaled:
    """A model with the denoiser f(x, t) = factor x."""

    path = linear

    def __init__(self, factor):
        self.factor = torch.as_tensor(factor, dtype=torch.float64).requires_grad_()

    def velocity(self, x, t):
        return (x - self.factor * x) / t


def test_moment_matching_is_zero_where_samples_have_the_teachers_mean():
    """By bisection for a Gaussian: the generator with E[y | x_r] = f_T(x_r) lies above the denoiser f_T(x_s)."""
    teacher = fm.exact.Gaussian([0.0], [0.8])
    wanted = float(teacher.denoise(torch.ones(1, 1).double(), 0.5))
    low, high = float(teacher.denoise(torch.ones(1, 1).double(), 0.7)), 1.5
    assert moment_gradient(low, teacher)[0] < -1e-3 and moment_gradient(high, teacher)[0] > 1e-3
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if moment_gradient(middle, teacher)[1] < wanted else (low, middle)
    assert abs(moment_gradient(low, teacher)[0]) < 1e-9


def test_the_auxiliary_of_moment_matching_ends_in_the_middle():
    """The sum of both squares is least at (E[y | x_r] + f_T)/2."""
    teacher, flow = fm.exact.Gaussian([0.0], [0.8]), Scaled(0.9)
    z, n, weights = quadrature(40)
    x, s = 0.7 * z, torch.full_like(z, 0.7)
    mean, std = linear.posterior(x, 0.9 * x, 0.7, 0.5)
    x_r = mean + std * n
    slope = float((weights * 0.9 * x * x_r).sum() / (weights * x_r**2).sum())
    middle = (slope + float(teacher.denoise(torch.ones(1, 1).double(), 0.5))) / 2
    for factor, least in ((middle, True), (slope, False)):
        auxiliary = Scaled(factor)
        found = follow_moments(flow, teacher, x, s, s, noise=n, gap=torch.full_like(x, 0.2), auxiliary=auxiliary)
        total = sum((weights * residual**2).sum() for residual in found.values())
        (gradient,) = torch.autograd.grad(total, auxiliary.factor)
        assert (abs(float(gradient)) < 1e-9) == least
        assert not flow.factor.grad


def test_a_sampled_pair_is_no_teacher():
    for rule in (scores.match, scores.match_beside, scores.identify, match_moments, follow_moments):
        with pytest.raises(ValueError, match="compares denoisers at samples"):
            fm.Term(rule, conditional)


def test_the_shown_value_is_the_mean_square_of_the_difference():
    flow, law = generator()
    z, n, _ = quadrature(6)
    one, zero, level = (torch.full_like(z, t) for t in (1.0, 0.0, LEVEL))
    x_l = linear.interpolate(0.2 + 0.6 * z, n, LEVEL)
    wanted = (law.denoise(x_l, LEVEL) - M2.denoise(x_l, LEVEL)) ** 2
    for rule, options in ((scores.match, {}), (scores.identify, {"alpha": 1.0})):
        found = rule(flow, M2, z, one, zero, noise=n, level=level, auxiliary=law, **options)
        assert torch.allclose(found, wanted)
