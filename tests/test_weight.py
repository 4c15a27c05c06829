"""Weights by hand, and the gradients that they stand for."""

import math

import pytest
import torch

from flowmaps import weight
from tests.oracles import randn, times

R, (S, T) = randn(6, 2, 3), times(6)
SQUARE = torch.tensor([sum(v * v for v in row) for row in R.flatten(1).tolist()], dtype=torch.float64)


def gradient(rule, residual=R):
    residual = residual.clone().requires_grad_()
    return torch.autograd.grad(rule(residual, S, T).sum(), residual)[0]


@pytest.mark.parametrize(
    "rule, expected",
    [
        (weight.squared, SQUARE / 6),
        (weight.summed, SQUARE),
        (weight.adaptive(0.0), SQUARE / 6),
        (weight.adaptive(1.0, 0.01), SQUARE / (SQUARE + 0.01)),
        (weight.adaptive(0.5, 0.2), SQUARE / (SQUARE + 0.2).sqrt()),
        (weight.adaptive(0.5, 0.2, weight.squared), SQUARE / 6 / (SQUARE / 6 + 0.2).sqrt()),
        (weight.plain, torch.stack([row.sum() / 6 for row in R])),
        (weight.root, SQUARE.sqrt()),
        (weight.normalised(0.1), SQUARE / (SQUARE.sqrt() + 0.1)),
        (weight.huber(0.3), (SQUARE + 0.3**2 * 6).sqrt() - 0.3 * math.sqrt(6)),
        (weight.cauchy(0.5), (1 + SQUARE / 6 / 0.25).log()),
        (weight.by_interval(lambda s, t: (t - s) ** 2), (T - S) ** 2 * SQUARE / 6),
        (weight.by_interval(lambda s, t: s, weight.summed), S * SQUARE),
        (weight.learned(), SQUARE / 6),
        (weight.learned_cauchy(), (SQUARE / 6 + 1).log()),
        (weight.huber_each(0.3), ((R**2 + 0.09).sqrt() - 0.3).flatten(1).mean(1)),
    ],
)
def test_formulas_by_hand(rule, expected):
    found = rule(R, S, T)
    assert found.shape == (6,)
    torch.testing.assert_close(found, expected)


def test_the_gradient_of_an_adaptive_weight_stops_at_the_weight():
    size = SQUARE.reshape(6, 1, 1)
    torch.testing.assert_close(gradient(weight.adaptive(1.0, 0.01)), 2 * R / (size + 0.01))
    torch.testing.assert_close(gradient(weight.adaptive(0.5, 0.01)), 2 * R / (size + 0.01).sqrt())
    in_means = gradient(weight.adaptive(0.5, 0.01, weight.squared))
    torch.testing.assert_close(in_means, R / 3 / (size / 6 + 0.01).sqrt())


def test_normalised_is_tangent_normalisation():
    """Twice g / (|g| + c), the gradient of |V - sg[V] + g / (|g| + c)|^2 with respect to V."""
    V = torch.zeros_like(R, requires_grad=True)
    tangent = R / (SQUARE.sqrt().reshape(6, 1, 1) + 0.1)
    (expected,) = torch.autograd.grad((V - V.detach() + tangent).square().sum(), V)
    torch.testing.assert_close(gradient(weight.normalised(0.1)), expected)


def test_the_gradient_of_a_distance_is_its_own():
    torch.testing.assert_close(gradient(weight.huber(0.3)), R / (SQUARE + 0.54).sqrt().reshape(6, 1, 1))
    torch.testing.assert_close(gradient(weight.cauchy(0.5)), 2 * R / 6 / (0.25 + SQUARE.reshape(6, 1, 1) / 6))
    torch.testing.assert_close(gradient(weight.root), R / SQUARE.sqrt().reshape(6, 1, 1))
    torch.testing.assert_close(gradient(weight.plain), torch.full_like(R, 1 / 6))


def test_zero_residuals_have_finite_gradients():
    rules = (weight.adaptive(), weight.normalised(), weight.huber(), weight.cauchy(), weight.squared, weight.root)
    for rule in rules:
        assert (gradient(rule, torch.zeros_like(R)) == 0).all()
    half = torch.cat([torch.zeros_like(R[:3]), R[3:]])
    assert (gradient(weight.root, half)[:3] == 0).all() and (gradient(weight.root, half)[3:] != 0).any()


def test_the_optimum_of_a_learned_weight_is_the_log_mean_square():
    """Where the mean square residual is exp(w(s, t)), no weight of w has a gradient left."""
    learned = weight.learned(16).double()
    torch.nn.init.normal_(learned.linear.weight)
    s, t = times(50)
    root = torch.exp(learned.log_variance(s, t) / 2).detach()[:, None]
    spread = torch.tensor([0.5, 1.5], dtype=torch.float64) ** 0.5  # two coordinates with mean square one
    learned(root * spread, s, t).mean().backward()
    assert all(p.grad.abs().max() < 1e-12 for p in learned.parameters())
    learned.zero_grad()
    learned(2 * root * spread, s, t).mean().backward()
    assert learned.linear.bias.grad.item() == pytest.approx(-3)  # 1 - 4: w is too small


def test_a_learned_weight_finds_the_mean_square():
    learned = weight.learned(32).double()
    optimizer = torch.optim.LBFGS(learned.parameters(), max_iter=100)
    s, residual = torch.rand(64, dtype=torch.float64), torch.full((64, 2), 3.0, dtype=torch.float64)

    def loss():
        optimizer.zero_grad()
        value = learned(residual, s, s / 2).mean()
        value.backward()
        return value

    optimizer.step(loss)
    expected = torch.full_like(s, math.log(9.0))
    torch.testing.assert_close(learned.log_variance(s, s / 2), expected, atol=1e-2, rtol=0)


def test_a_learned_weight_knows_both_times_and_is_rebuilt_alike():
    learned, again = weight.learned(16), weight.learned(16)
    torch.nn.init.ones_(learned.linear.weight)
    again.load_state_dict(learned.state_dict())
    s = torch.tensor([0.1, 0.5, 0.5])
    t = torch.tensor([0.1, 0.1, 0.4])
    w = learned.log_variance(s, t)
    assert len(set(w.tolist())) == 3 and torch.equal(w, again.log_variance(s, t))


def test_the_gaussian_likelihood_is_least_at_the_log_mean_square():
    """exp(-w) r^2 + w is 1 + log r^2 at w = log r^2, and its slope in w is 1 - exp(-w) r^2."""
    square = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64)
    torch.testing.assert_close(weight.gaussian_likelihood(square, square.log()), 1 + square.log())
    for w in (square.log() - 1, square.log(), square.log() + 1):
        w.requires_grad_()
        (slope,) = torch.autograd.grad(weight.gaussian_likelihood(square, w).sum(), w)
        torch.testing.assert_close(slope, 1 - square / w.detach().exp(), atol=1e-12, rtol=1e-12)


def test_a_likelihood_of_ones_own_weighs_any_distance():
    """Learned(weight=, likelihood=) is likelihood(weight(r, s, t), w(s, t))."""
    mine = weight.Learned(8, weight.summed, likelihood=lambda square, w: square * (2 + w)).double()
    torch.nn.init.constant_(mine.linear.bias, 3.0)
    torch.testing.assert_close(mine(R, S, T), 5 * SQUARE)


def test_the_cauchy_likelihood_is_least_where_the_scale_is_the_residual():
    """log(exp(-w) r^2 + 1) + w/2: its slope in w is 1/2 - r^2/(r^2 + exp(w)), zero at exp(w) = r^2."""
    square = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64, requires_grad=True)
    for level in (-8.0, -1.0, 0.0, 2.0):
        w = torch.full_like(square, level, requires_grad=True)
        value = weight.cauchy_likelihood(square, w)
        torch.testing.assert_close(value, (square * math.exp(-level) + 1).log() + level / 2)
        slopes = torch.autograd.grad(value.sum(), (square, w))
        torch.testing.assert_close(slopes, (1 / (square + w.exp()), 0.5 - square / (square + w.exp())))
    w = square.detach().log().requires_grad_()
    (slope,) = torch.autograd.grad(weight.cauchy_likelihood(square.detach(), w).sum(), w)
    assert slope.abs().max() < 1e-12
