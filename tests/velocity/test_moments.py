"""The Fréchet distance as a weight: its value, its gradient in closed form, its memory, its errors."""

import pytest
import torch

from flowmaps.draws import Rows
from flowmaps.method import TermLoss
from flowmaps.velocity import FrechetDistance
from flowmaps.velocity.moments import frechet
from tests.oracles import randn


def covariance(seed):
    root = randn(3, 3, seed=seed)
    return root @ root.T + 0.1 * torch.eye(3, dtype=torch.float64)


def test_the_gradient_is_the_closed_form_and_finite_without_spread():
    """dFD/dS = I - R (R S R)^(-1/2) R and dFD/dm = 2 (m - m_r); without eps it is not finite for equal samples."""
    mean, mean_r, S, S_r = randn(3, seed=1), randn(3, seed=2), covariance(3), covariance(4)
    mean.requires_grad_(), S.requires_grad_()
    of_mean, of_S = torch.autograd.grad(frechet(mean, S, mean_r, S_r), (mean, S))
    values, axes = torch.linalg.eigh(S_r)
    R = (axes * values.sqrt()) @ axes.T
    values, axes = torch.linalg.eigh(R @ S.detach() @ R)
    wanted = torch.eye(3, dtype=torch.float64) - R @ (axes / values.sqrt()) @ axes.T @ R
    assert torch.allclose(of_S, wanted, atol=1e-12) and torch.allclose(of_mean, 2 * (mean - mean_r).detach())
    assert abs(float(frechet(mean_r, S_r, mean_r, S_r))) < 1e-12
    flat = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    for eps, finite in ((1e-6, True), (0.0, False)):
        (slope,) = torch.autograd.grad(frechet(mean_r, flat, mean_r, S_r, eps), flat)
        assert bool(slope.isfinite().all()) == finite


def test_it_is_the_distance_of_two_gaussians():
    """With tr (S S_r)^(1/2) by the eigenvalues of the product, which is not symmetric."""
    x, y = randn(400, 3, seed=5), randn(400, 3, seed=6) @ covariance(1) + 0.3
    found = FrechetDistance(eps=1e-12)(torch.stack([x, y], 1), *torch.ones(2, 400))
    S, S_r = (z.T.cov(correction=0) for z in (x, y))
    cross = torch.linalg.eigvals(S @ S_r).real.sqrt().sum()
    wanted = (x.mean(0) - y.mean(0)).square().sum() + S.trace() + S_r.trace() - 2 * cross
    assert found.shape == (400,) and bool((found == found[0]).all())
    assert found[0].item() == pytest.approx(wanted.item(), rel=1e-9)
    given = FrechetDistance((y.mean(0), S_r), eps=1e-12)(x[:, None], *torch.ones(2, 400))
    assert torch.allclose(given, found, rtol=1e-9)


def test_samples_are_forgotten_and_data_are_not():
    """After n steps the samples' moments have weights decay^k, the data's equal ones; the gradient is the batch's."""
    distance, steps = FrechetDistance(decay=0.5, c=1.0), [randn(40, 2, 3, seed=k) for k in range(3)]
    for features in steps[:2]:
        distance.observe(TermLoss(torch.zeros(()), features, torch.ones(40), torch.zeros(40), Rows(total=40)))
    last = steps[2].requires_grad_()
    value = distance(last, *torch.ones(2, 40))[0]
    weights = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64).repeat_interleave(40)[:, None]
    samples, data = (torch.cat([step[:, k] for step in steps]) for k in range(2))
    mean = (weights * samples).sum(0) / weights.sum()
    S = (weights * (samples - mean)).T @ (samples - mean) / weights.sum()
    wanted = frechet(mean, S, data.detach().mean(0), data.detach().T.cov(correction=0), 1e-6)
    assert value.item() == pytest.approx(wanted.item(), rel=1e-9)
    (slope,), (whole,) = torch.autograd.grad(value, last), torch.autograd.grad(wanted, last)
    assert torch.allclose(slope[:, 0], whole[:, 0] / (wanted.detach() + 1)) and not slope[:, 1].any()

    other = FrechetDistance(decay=0.5, c=1.0)
    other.load_state_dict(distance.state_dict())
    assert torch.equal(other(last, *torch.ones(2, 40))[0], value)
    other.restart(None)
    assert not len(other.sums) and not len(other.reference)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="40 features needs more samples than features, and 3 rows .* count as 30"):
        FrechetDistance(decay=0.9)(randn(3, 2, 40), *torch.ones(2, 3))
    with pytest.raises(ValueError, match="the reference has 2 features, and the samples have 3"):
        FrechetDistance((torch.zeros(2), torch.eye(2)))(randn(9, 1, 3), *torch.ones(2, 9))
    with pytest.raises(ValueError, match=r"a mean \(D,\) and a covariance \(D, D\)"):
        FrechetDistance((torch.zeros(2), torch.eye(3)))
    with pytest.raises(ValueError, match="must be below 1"):
        FrechetDistance(decay=1.0)
    with pytest.raises(ValueError, match="3 rows with a decay of 0 count as 3"):
        FrechetDistance()(randn(3, 2, 3), *torch.ones(2, 3))
