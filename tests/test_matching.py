"""Rules that match distributions: fields and statistics against closed forms, formulas and truth."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.draws import Rows
from flowmaps.matching import HIDDEN, different, distances, drift, gaussian, laplace, moments, with_value
from flowmaps.velocity import Pair
from flowmaps.velocity.sources import Conditional
from tests.methods.support import Network
from tests.oracles import flow_of, mixture, randn

TAU = 0.3


def field(kernel, x, data, samples, hidden=(False, False), **options):
    """The field at x, with pairs of x and data, and of x and samples, that are left out."""
    ends = [
        distances(x, y).masked_fill(torch.as_tensor(one), HIDDEN)
        for y, one in zip((data, samples), hidden, strict=True)
    ]
    return kernel(*ends, data, samples, **options)


def pair_of(x0, eps, group, **condition):
    return Conditional(Pair(x0, eps, fm.path.linear, condition, rows=Rows(total=len(x0)).in_groups(group, "a")))


def score(law, x):
    """grad log p of the law smoothed by a Gaussian of width TAU."""
    smooth = fm.exact.GaussianMixture(law.weights, law.means, (law.stds**2 + TAU**2).sqrt())
    x = x.requires_grad_()
    return torch.autograd.grad(smooth.log_prob(x).sum(), x)[0]


def test_the_gaussian_field_is_a_difference_of_scores():
    """tau^2 (grad log p - grad log q), within 4 standard errors of 100,000 points, which are below .01."""
    p, q = mixture(), fm.exact.GaussianMixture([0.6, 0.4], [-0.5, 1.0], [0.5, 0.3])
    torch.manual_seed(0)
    x, y, z = torch.linspace(-1.5, 1.5, 7).double()[:, None], p.sample(100_000).double(), q.sample(100_000).double()
    found = field(gaussian, x, y, z, tau=TAU)
    wanted = TAU**2 * (score(p, x.clone()) - score(q, x.clone()))
    error = torch.zeros_like(found)
    for points in (y, z):
        weights = (-((x - points.T) ** 2) / (2 * TAU**2)).softmax(-1)
        error += (weights**2 * (points.T - weights @ points) ** 2).sum(-1, keepdim=True)
    assert bool(((found - wanted).abs() < 4 * error.sqrt()).all()) and float(error.sqrt().max()) < 0.01
    assert float(wanted.abs().max()) > 0.1


@pytest.mark.parametrize("kernel", [laplace, gaussian], ids=["laplace", "gaussian"])
def test_fields_are_antisymmetric_and_vanish_for_equal_sets(kernel):
    x, y, z = randn(6, 2, seed=1), randn(9, 2, seed=2), randn(9, 2, seed=3)
    found = field(kernel, x, y, z, tau=TAU)
    assert torch.allclose(found, -field(kernel, x, z, y, tau=TAU), atol=1e-12) and found.abs().max() > 0.01
    assert field(kernel, x, y, y, tau=TAU).abs().max() < 1e-12


def test_the_laplace_field_is_the_formula():
    """Sums written out; the field moves x by sum A+ (sum A-) (y - x) - sum A- (sum A+) (x' - x)."""
    x, y, z = randn(4, 2, seed=1), randn(5, 2, seed=2), randn(3, 2, seed=3)
    K = torch.stack([torch.stack([(-(a - b).norm() / TAU).exp() for b in (*y, *z)]) for a in x])
    A = (K / K.sum(1, keepdim=True) * K / K.sum(0)).sqrt()
    wanted = torch.stack([
        sum(A[i, :5].sum() * -A[i, 5 + j] * (z[j] - x[i]) for j in range(3))
        + sum(A[i, 5:].sum() * A[i, j] * (y[j] - x[i]) for j in range(5))
        for i in range(4)
    ])  # fmt: skip
    assert torch.allclose(field(laplace, x, y, z, tau=TAU), wanted, atol=1e-12)


@pytest.mark.parametrize("temperatures", [(0.3,), (0.05, 0.3)], ids=["one", "two"])
def test_drift_follows_the_field_and_shows_its_size(temperatures):
    """Gradient -2 W/D at the samples, W normalised for several temperatures; the value is the raw field's."""
    x0, eps, flow = randn(8, 3, seed=1), randn(8, 3, seed=2), fm.FlowMap(Network())
    teacher, options = pair_of(x0, eps, 4), {"kernel": laplace, "temperatures": temperatures}
    ends = []

    def features(y):
        ends.append(y)
        return y

    loss = drift(flow, teacher, eps, torch.ones(8, 1), torch.zeros(8, 1), features=features, **options)
    (slope,) = torch.autograd.grad(loss.sum(), ends[0])
    rows, raw, used = teacher.pair.rows, 0, 0
    for y, data in zip(rows.blocks(ends[0].detach()), rows.blocks(x0), strict=True):
        unit = torch.cdist(y, data).mean()
        for tau in temperatures:
            one = field(laplace, y / unit, data / unit, y / unit, (False, torch.eye(4).bool()), tau=tau)
            size = one.square().mean().sqrt() if len(temperatures) > 1 else 1.0
            raw, used = [*(raw or []), unit * one], [*(used or []), unit * one / size]
    n = len(temperatures)
    raw, used = (torch.stack([sum(f[k * n : k * n + n]) for k in range(2)]) for f in (raw, used))
    assert torch.allclose(slope, -2 / 3 * rows.joined(used))
    assert torch.allclose(loss[:, 0], rows.joined(raw).square().mean(1))


def test_samples_see_their_own_class_alone():
    """The field with labels is the field of each class by itself, in the units of the block."""
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    pair = pair_of(randn(8, 2, seed=1), randn(8, 2, seed=2), 8, label=labels).pair
    hidden, x, y = different(pair)[0], randn(8, 2, seed=3), randn(8, 2, seed=4)
    for kernel in (laplace, gaussian):
        found = field(kernel, x, y, x, (hidden, hidden | torch.eye(8).bool()), tau=TAU)
        for k in range(2):
            mine = labels == k
            alone = field(kernel, x[mine], y[mine], x[mine], (False, torch.eye(4).bool()), tau=TAU)
            assert torch.allclose(found[mine], alone, atol=1e-12)
        few = hidden[:2, :2]
        lonely = field(kernel, x[:2], y[:2], x[:2], (few, few | torch.eye(2).bool()), tau=TAU)
        assert lonely.abs().max() < 1e-12  # no other sample of the class: it stays
    with pytest.raises(ValueError, match="'text' is not made of whole numbers"):
        different(replace(pair, condition={"text": randn(8, 4)}))


class Euler(nn.Module):
    """The velocity of a law as the average velocity: one jump is a DDIM step."""

    def __init__(self, law):
        super().__init__()
        self.law = law

    def forward(self, x, s, t):
        return self.law.velocity(x, s)


def statistic(flow, law, s, t, r, group, blocks=400):
    """Mean of the rule's value over blocks, and its standard error."""
    torch.manual_seed(0)
    n = group * blocks
    teacher = pair_of(law.sample(n).double(), torch.randn(n, 1).double(), group)
    s, t = (torch.full((n, 1), time, dtype=torch.float64) for time in (s, t))
    x = teacher.pair.path.interpolate(teacher.pair.x0, teacher.pair.eps, s)
    with torch.no_grad():
        values = moments(flow, teacher, x, s, t, earlier=lambda s, t: torch.full_like(s, r), scale=lambda s, t: s - t)
    of_blocks = teacher.pair.rows.blocks(values).mean((1, 2))
    return float(of_blocks.mean()), float(of_blocks.std()) / math.sqrt(blocks)


def test_the_statistic_is_zero_at_the_exact_map_and_not_for_a_ddim_step():
    law = fm.exact.GaussianMixture([0.3, 0.7], [-1.0, 1.0], [0.3, 0.4])
    at_truth, error = statistic(flow_of(law), law, 0.9, 0.0, 0.5, 16)
    assert abs(at_truth) < 3 * error and error < 0.005
    by_ddim, error = statistic(fm.FlowMap(Euler(law)), law, 0.9, 0.0, 0.5, 16)
    assert by_ddim > 0.03 + 3 * error


def test_moments_have_the_gradient_of_the_v_statistic():
    x0, eps, flow = randn(6, 3, seed=1), randn(6, 3, seed=2), fm.FlowMap(Network())
    teacher, s, t = pair_of(x0, eps, 3), *(torch.full((6, 1), time, dtype=x0.dtype) for time in (0.8, 0.2))
    x = teacher.pair.path.interpolate(x0, eps, s)
    options = {"earlier": lambda s, t: 0.5 * (s + t), "scale": lambda s, t: s}
    loss = moments(flow, teacher, x, s, t, **options)
    a, b = flow(x, s, t), flow(teacher.pair.path.interpolate(x0, eps, 0.5), 0.5, t).detach()
    wanted, unbiased = 0, 0
    for rows in ([0, 2, 4], [1, 3, 5]):
        for i in rows:
            for j in rows:
                norm = lambda u, v: (-(u - v).square().sum().add(1e-30).sqrt() / (3 * 0.8)).exp()  # noqa: E731
                term = norm(a[i], a[j]) - 2 * norm(a[i], b[j]) + norm(b[i], b[j])
                wanted, unbiased = wanted + term / 18, unbiased + (term / 12 if i != j else 0)
    assert loss.mean().item() == pytest.approx(unbiased.item(), rel=1e-9)
    for found, true in zip(
        *(torch.autograd.grad(one, flow.parameters()) for one in (loss.mean(), wanted)), strict=True
    ):
        assert torch.allclose(found, true, atol=1e-12)
    assert with_value(torch.tensor(2.0), torch.tensor(3.0)) == 2
