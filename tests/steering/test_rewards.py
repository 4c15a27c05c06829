"""Rewards: values against torch's distributions, their algebra, their forms, and messages for wrong ones."""

import math

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.steering.operators import Linearised, as_operator
from flowmaps.steering.spread import Spread, conjugate_gradients
from tests.oracles import randn
from tests.steering.beds import SLOPE, tensor, three

R, S = fm.rewards, fm.steering


def images(n=3, side=8, seed=0):
    return randn(n, 2, side, side, seed=seed)


def operators():
    kept = torch.zeros(8, 8)
    kept[2:6, 1:4] = 1
    return {
        "matrix": (randn(5, 128, seed=4), (5,)), "mask": (R.mask(kept), (2, 12)),
        "mask of a row": (R.mask(kept.expand(2, 8, 8) == 1), (24,)), "blur": (R.blur(0.8), (2, 8, 8)),
        "downsample": (R.downsample(2), (2, 4, 4)), "number": (0.5, (2, 8, 8)),
        "nonlinear": (lambda x: (x[:, 0] ** 2).flatten(1)[:, :10], (10,)),
    }  # fmt: skip


EVERY = pytest.mark.parametrize("name", operators())


@EVERY
def test_a_likelihood_is_the_density_of_the_measurement(name):
    """For a measurement of all rows, and for one of each row."""
    A, shape = operators()[name]
    x0 = images()
    for y in (randn(*shape, seed=1), randn(3, *shape, seed=1)):
        reward = R.Likelihood(A, y, 0.3)
        mean = as_operator(A)(x0)
        assert mean.shape[1:] == shape
        truth = torch.distributions.Normal(mean, 0.3).log_prob(y.expand_as(mean)).reshape(3, -1).sum(1)
        torch.testing.assert_close(reward(x0), truth)
        torch.testing.assert_close(reward.distance(x0), -(y - mean).reshape(3, -1).norm(dim=1))


@EVERY
@pytest.mark.parametrize("full", [False, True])
def test_a_widened_likelihood_has_the_covariance_of_both(name, full):
    """log N(y; A x0, std^2 I + J C J^T), by torch's multivariate normal."""
    A, shape = operators()[name]
    x0, y = images(2), randn(*shape, seed=1)
    reward, size = R.Likelihood(A, y, 0.3), math.prod(shape)
    J = torch.autograd.functional.jacobian(lambda x: as_operator(A)(x).sum(0).reshape(-1), x0)  # (M, B, ...)
    J = J.reshape(size, 2, -1).transpose(0, 1)
    root = randn(128, 128, seed=9) / 12
    C = root @ root.T if full else 0.7 * torch.eye(128).double()
    spread = (
        Spread(product=lambda v: (v.flatten(1) @ C).reshape(v.shape))
        if full
        else Spread(tensor(0.7).reshape(1, 1, 1, 1).expand(2, 1, 1, 1))
    )
    truth = torch.distributions.MultivariateNormal(
        as_operator(A)(x0).reshape(2, -1), 0.09 * torch.eye(size).double() + J @ C @ J.mT
    ).log_prob(y.reshape(-1))
    found = reward.widened(x0, spread)
    if size <= 64 or (not full and name == "number"):
        torch.testing.assert_close(found, truth, rtol=1e-8, atol=1e-8)
    else:  # the determinant of many values is an estimate, which states cancel
        other = images(2, seed=5)
        moved = torch.distributions.MultivariateNormal(
            as_operator(A)(other).reshape(2, -1), 0.09 * torch.eye(size).double() + J @ C @ J.mT
        ).log_prob(y.reshape(-1))
        torch.manual_seed(0)
        here = reward.widened(x0, spread)
        torch.manual_seed(0)
        there = reward.widened(other, spread)
        torch.testing.assert_close(here - there, truth - moved, rtol=1e-3, atol=1e-3)


def test_the_gradient_of_a_widened_likelihood_is_right_for_many_measured_values():
    """With the solution of conjugate gradients held fixed, the form still has the exact gradient."""
    x0 = images(1, 12).requires_grad_()
    reward = R.Likelihood(R.blur(0.8), randn(2, 12, 12, seed=1), 0.3)
    spread = Spread(tensor(0.7).reshape(1, 1, 1, 1))
    (gradient,) = torch.autograd.grad(reward.widened(x0, spread).sum(), x0)
    direction, h = images(1, 12, seed=3), 1e-4
    torch.manual_seed(0)
    above = reward.widened(x0 + h * direction, spread)
    torch.manual_seed(0)
    below = reward.widened(x0 - h * direction, spread)
    torch.testing.assert_close(
        (gradient * direction).sum(), ((above - below) / (2 * h))[0].detach(), rtol=1e-4, atol=1e-4
    )


def test_the_estimate_of_a_determinant_does_not_weigh_rows():
    """Equal rows have equal values, or particles would be resampled by the noise of the probes."""
    x0 = images(1, 12).expand(4, -1, -1, -1)
    reward = R.Likelihood(R.blur(0.8), randn(2, 12, 12, seed=1), 0.3)
    found = reward.widened(x0, Spread(torch.full((4, 1, 1, 1), 0.7).double()))
    torch.testing.assert_close(found, found[:1].expand(4))


def test_a_covariance_with_negative_eigenvalues_is_widened_by_none():
    """The Jacobian of a learned denoiser may have some: those directions get the noise of the measurement alone."""
    x0, C = images(2, 8), torch.diag(torch.linspace(-1.0, 1.0, 128).double())
    reward = R.Likelihood(torch.eye(128).double()[::8], randn(16, seed=1), 0.3)
    spread, clean = (Spread(product=lambda v, C=C: (v.flatten(1) @ C).reshape(v.shape)) for C in (C, C.clamp(min=0)))
    torch.testing.assert_close(reward.widened(x0, spread), reward.widened(x0, clean))


def test_conjugate_gradients_solve_each_row():
    root = randn(3, 20, 20)
    S_, b = root @ root.mT + torch.eye(20).double(), randn(3, 20, seed=2)
    found = conjugate_gradients(lambda u: (S_ @ u[..., None])[..., 0], b, 100)
    torch.testing.assert_close(found, torch.linalg.solve(S_, b), rtol=1e-3, atol=1e-4)


@EVERY
def test_derivatives_of_operators(name):
    A, _ = operators()[name]
    x0, v = images(), images(seed=7)
    J = Linearised(as_operator(A), x0)
    truth = torch.autograd.functional.jvp(lambda x: as_operator(A)(x).flatten(1), x0, v)[1]
    torch.testing.assert_close(J.forward(v), truth)
    u = randn(*truth.shape, seed=8)
    torch.testing.assert_close((J.adjoint(u) * v).sum(), (u * truth).sum())
    assert as_operator(A).gram is None or torch.allclose(J.forward(J.adjoint(u)), as_operator(A).gram * u)


def test_a_blur_keeps_constants_and_a_mean():
    assert torch.allclose(R.blur(1.0)(torch.ones(1, 3, 9, 9)), torch.ones(1, 3, 9, 9))
    spot = torch.zeros(1, 1, 21, 21)
    spot[0, 0, 10, 10] = 1
    found = R.blur(1.5)(spot)[0, 0]
    places = torch.arange(21) - 10.0
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert (found.sum(0) @ places**2).sqrt().item() == pytest.approx(1.5, abs=0.1)


def test_rewards_add_and_scale():
    x0, r = randn(4, 2), R.Linear(SLOPE)
    seen = R.Likelihood(2.0, tensor(0.1, 0.2), 0.5)
    torch.testing.assert_close((r + seen)(x0), r(x0) + seen(x0))
    torch.testing.assert_close((3 * r + (lambda x: x.sum(1)))(x0), 3 * r(x0) + x0.sum(1))
    torch.testing.assert_close(((lambda x: x.sum(1)) + r)(x0), r(x0) + x0.sum(1))
    torch.testing.assert_close(R.scaled(lambda x: x.sum(1), -2.0)(x0), -2 * x0.sum(1))
    torch.testing.assert_close(R.decoded(lambda z: 2 * z, seen + r)(x0), seen(2 * x0) + r(2 * x0))
    assert isinstance(R.decoded(lambda z: 2 * z, seen), R.Likelihood)


@pytest.mark.parametrize("reward", [
    R.Linear(SLOPE), R.Likelihood(SLOPE[None], tensor(0.4), 0.3), R.Likelihood(0.5, tensor(0.4, 0.1), 0.3),
    R.Linear(SLOPE) + R.Likelihood(SLOPE[None], tensor(0.4), 0.3), 0.3 * R.Likelihood(SLOPE[None], tensor(0.4), 0.3),
])  # fmt: skip
def test_quadratic_rewards_tell_their_form(reward):
    """The polynomial has the values of the reward, and gives the evidence of a Gaussian mixture."""
    x0 = randn(5, 2)
    torch.testing.assert_close(reward.quadratic(torch.Size([2]))(x0), reward(x0))
    mixture = three()
    torch.manual_seed(0)
    _, log_z = mixture.tilted(reward)
    x = mixture.sample(200_000)
    weights = reward(x).exp()
    assert abs(weights.mean() - log_z.exp()) < 4 * weights.std() / 200_000**0.5


@pytest.mark.parametrize("k", [0.25, 3.0])
def test_a_scaled_likelihood_is_widened_as_a_whole(k):
    """log E e^(k r(X)) for X ~ N(x0, rho I), by quadrature."""
    seen = R.Likelihood(2.0, tensor(0.3), 0.5)
    x0, rho, z = tensor([0.2]), 0.4, torch.linspace(-9, 9, 20001, dtype=torch.float64)
    values = k * seen(x0 + rho**0.5 * z[:, None])
    weight = (-(z**2) / 2).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    truth = (weight * values.exp()).sum().log()
    found = R.scaled(seen, k).widened(x0, Spread(tensor([rho])))[0]
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-6)
    line = R.Linear(tensor(1.5))
    torch.testing.assert_close(line.widened(x0, Spread(tensor([rho])))[0], 1.5 * x0[0, 0] + 1.5**2 * rho / 2)
    torch.testing.assert_close(
        (k * line).widened(x0, Spread(tensor([rho])))[0],
        R.Linear(tensor(1.5 * k)).widened(x0, Spread(tensor([rho])))[0],
    )


class Rows(nn.Module):
    """A classifier of rows of two numbers."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 4).double()

    def forward(self, x):
        return self.line(x)


def test_labels_are_log_probabilities_and_leave_the_weights_alone():
    classifier, x0 = Rows(), randn(3, 2).requires_grad_()
    truth = classifier(x0).log_softmax(1)
    torch.testing.assert_close(R.label(classifier, 2)(x0), truth[:, 2])
    torch.testing.assert_close(R.label(classifier, torch.tensor([3, 0, 1]))(x0), truth[range(3), [3, 0, 1]])
    value = S.value(R.label(classifier, 2))
    S.tilt(three(), value).velocity(x0.detach(), 0.5)
    assert classifier.line.weight.grad is None


def test_wrong_rewards_are_refused_with_a_sentence():
    x0 = randn(3, 2)
    small = fm.evaluate.Classifier((1, 8, 8), 10)
    one_direction = R.Likelihood(SLOPE[None], tensor(0.0), 1.0)
    spoilt = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5))
    cases = [
        (TypeError, "floating-point", lambda: R.Linear(torch.tensor([1, 2]))),
        (ValueError, "must be finite", lambda: R.Linear(tensor(1.0, math.nan))),
        (ValueError, r"shape of a row, \(2,\), got \(3,\)", lambda: R.Linear(tensor(1.0, 2.0, 3.0))(x0)),
        (ValueError, "std must be positive", lambda: R.Likelihood(1.0, tensor(0.0), 0.0)),
        (ValueError, "must be finite", lambda: R.Likelihood(1.0, tensor(math.inf), 0.1)),
        (TypeError, "a matrix", lambda: R.Likelihood("blur", tensor(0.0), 0.1)),
        (ValueError, "finite and not 0", lambda: R.Likelihood(0.0, tensor(0.0), 0.1)),
        (ValueError, r"has shape \(M, D\)", lambda: R.Likelihood(SLOPE, tensor(0.0), 0.1)),
        (ValueError, "takes rows of 3 coordinates", lambda: R.Likelihood(torch.ones(1, 3), tensor(0.0), 0.1)(x0)),
        (
            ValueError,
            r"y has shape \(3,\), but A\(x0\) has rows of shape \(2,\)",
            lambda: R.Likelihood(1.0, tensor(0.0, 0.0, 0.0), 0.1)(x0),
        ),
        (ValueError, "returns a row for each of 3", lambda: R.Likelihood(lambda x: x.sum(), tensor(0.0), 0.1)(x0)),
        (ValueError, "0 and 1", lambda: R.mask(torch.tensor([0.5, 1.0]))),
        (ValueError, "keeps at least one", lambda: R.mask(torch.zeros(4))),
        (ValueError, r"mask of shape \(3,\) does not fit rows of shape \(2,\)", lambda: R.mask(torch.ones(3))(x0)),
        (ValueError, r"a blur needs images \(B, C, H, W\)", lambda: R.blur(1.0)(x0)),
        (ValueError, "needs sides that it divides", lambda: R.downsample(3)(images())),
        (ValueError, "factor must be at least 1", lambda: R.downsample(0)),
        (TypeError, "a classifier is a function", lambda: R.label(3, 2)),
        (TypeError, "a label is a class", lambda: R.label(Rows(), 1.5)),
        (TypeError, "a label is a class", lambda: R.label(Rows(), True)),
        (ValueError, "knows the classes 0 to 3, and the label is 7", lambda: R.label(Rows(), 7)(x0)),
        (ValueError, "one for each of 3 rows", lambda: R.label(Rows(), torch.tensor([1, 2]))(x0)),
        (ValueError, r"takes rows of shape \(1, 8, 8\)", lambda: R.label(small.eval(), 1)(x0)),
        (ValueError, "refuses data of shape", lambda: R.label(nn.Linear(5, 3).double(), 1)(x0)),
        (ValueError, "returns logits", lambda: R.label(lambda x: x[:, 0], 1)(x0)),
        (ValueError, "in training mode", lambda: R.label(spoilt, 1)),
        (TypeError, "a reward is a function", lambda: R.scaled(2.0, 3.0)),
        (ValueError, "k must be finite", lambda: R.scaled(R.Linear(SLOPE), math.inf)),
        (TypeError, "a reward is a function", lambda: R.Linear(SLOPE) + 3.0),
        (TypeError, "decode must be a function", lambda: R.decoded(None, R.Linear(SLOPE))),
        (ValueError, "is no quadratic reward", lambda: R.Likelihood(torch.sin, SLOPE, 0.1).quadratic(torch.Size([2]))),
        (ValueError, "is no quadratic reward", lambda: R.label(Rows(), 1).quadratic(torch.Size([2]))),
        (ValueError, "one for each row", lambda: R.Likelihood(1.0, randn(2, 2), 0.1).quadratic(torch.Size([2]))),
        (
            TypeError,
            "neither",
            lambda: S.exact_tilt(three(), one_direction).denoise(x0, 0.5),
        ),
        (TypeError, "needs a reward of fm.rewards", lambda: S.exact_tilt(three(), lambda x: x.sum(1))),
        (
            ValueError,
            r"one number for each row, \(3,\), got the shape \(3, 1\): sum",
            lambda: R.rewarded(lambda x: x[:, :1], x0),
        ),
        (ValueError, r"\(3,\), got the shape \(\)", lambda: R.rewarded(lambda x: x.sum(), x0)),
        (ValueError, "2 of its 3 rows hold NaN", lambda: R.rewarded(lambda x: tensor(1.0, math.nan, math.inf), x0)),
        (
            ValueError,
            "the reward writes into its input",
            lambda: R.rewarded(lambda x: x.clamp_(-1, 1).sum(1), x0.clone()),
        ),
        (TypeError, "must return a tensor", lambda: R.rewarded(lambda x: 1.0, x0)),
    ]
    for error, message, wrong in cases:
        with pytest.raises(error, match=message):
            wrong()
