"""Losses held in proportion, by numbers that are known."""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.method.balance import gradient_ratio, residual_ratio
from flowmaps.method.term import TermLoss
from tests.methods.support import Network, batch

X0, EPS, (S, T) = batch()
ROOT = 3**0.5
"""|1|, of the three coordinates of the data."""


def constant(value):
    """A rule whose residual is one number everywhere."""

    def rule(flow, teacher, x, s, t):
        return torch.full_like(x, value)

    return rule


def scaled(factor):
    """A rule whose residual is the velocity times a factor."""

    def rule(flow, teacher, x, s, t):
        return factor * flow.velocity(x, s)

    return rule


def two(rule, other, balance):
    return fm.Method(
        fm.Term(rule, share=0.75, name="first"), fm.Term(other, share=0.25, balance={"second": balance}, name="second")
    )


def loss_of(residual):
    return TermLoss(residual.square().mean(), residual, S, T)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_residuals_push_equally_hard(strength):
    """3 and 0.5 everywhere: the factor is 6, and the loss 0.75 * 9 + 0.25 * 6 * 0.25."""
    method = two(constant(3.0), constant(0.5), residual_ratio(strength, c=0.0))
    loss = method.loss(fm.FlowMap(Network()), X0)
    assert loss.value.item() == pytest.approx(0.75 * 9 + 0.25 * strength * 6 * 0.25)
    assert loss.terms["second"].value.item() == pytest.approx(0.25)  # as it is, without the factor


def test_the_ratio_of_residuals_is_of_their_mean_norms():
    """Rows of norms 1 and 3 against rows of norms 4 and 8, not the norm of the whole."""
    first = torch.tensor([[1.0, 0.0], [0.0, -3.0]], requires_grad=True)
    this = torch.tensor([[4.0, 0.0], [0.0, 8.0]], requires_grad=True)
    factor = residual_ratio(2.0, c=1.0)(*map(loss_of, (first, this)), None)
    assert factor.item() == pytest.approx(2 * 2 / (6 + 1)) and not factor.requires_grad


def test_a_residual_of_nothing_has_a_finite_factor():
    method = two(constant(3.0), constant(0.0), residual_ratio(c=1e-3))
    assert method.loss(fm.FlowMap(Network()), X0).value.item() == pytest.approx(0.75 * 9)
    factor = residual_ratio(c=1e-3)(loss_of(3 + 0 * X0), loss_of(0 * X0), None)
    assert factor.item() == pytest.approx(3 * ROOT / 1e-3)


def test_the_first_loss_is_in_proportion_to_itself():
    method = fm.Method(fm.Term(constant(3.0), balance={"rule": residual_ratio(0.5, c=0.0)}))
    assert method.loss(fm.FlowMap(Network()), X0).value.item() == pytest.approx(0.5 * 9)


@pytest.mark.parametrize("scale, factor", [(0.5, 4.0), (2.0, 0.25), (0.1, 10.0), (10.0, 0.05)])
def test_gradients_push_equally_hard(scale, factor):
    """|grad (c V)^2| is c^2 |grad V^2|, so the factor is 1/c^2, held between 0.05 and 10."""
    flow, balance = fm.FlowMap(Network()), gradient_ratio(low=0.05, high=10.0)
    method = two(scaled(1.0), scaled(scale), balance)
    loss = method.loss(flow, X0, noise=EPS, times=(S, T))
    first = loss.terms["first"].value
    torch.testing.assert_close(loss.value, (0.75 + 0.25 * factor * scale**2) * first, rtol=1e-6, atol=0)
    found = torch.autograd.grad(loss.value, list(flow.parameters()), retain_graph=True)
    alone = torch.autograd.grad(first, list(flow.parameters()))
    whole = 0.75 + 0.25 * factor * scale**2  # the factor is a constant for the gradient
    torch.testing.assert_close(list(found), [whole * g for g in alone], rtol=1e-6, atol=1e-12)


def test_strength_multiplies_what_is_held_between_the_bounds():
    flow = fm.FlowMap(Network())
    for strength, scale, expected in ((0.5, 0.5, 2.0), (0.5, 0.1, 5.0), (3.0, 2.0, 0.75)):
        first, this = (loss_of(c * flow.velocity(X0, S)) for c in (1.0, scale))
        assert gradient_ratio(strength)(first, this, flow).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_is_that_of_the_last_weights_that_learn():
    """Of a linear network V = W x + b: dL/dW = 2/(3 B) sum_rows r x^T. Biases and frozen layers do not count."""

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3).double()
            self.scale = nn.Parameter(torch.ones(3).double())
            self.frozen = nn.Linear(3, 3).double().requires_grad_(False)

        def forward(self, x, s, t):
            return self.linear(x)

    flow = fm.FlowMap(Layers())
    residuals = [flow.velocity(X0, S) - target for target in (1.0, EPS)]
    sizes = [(2 / 36 * r.T @ X0).norm() for r in residuals]
    found = gradient_ratio()(*map(loss_of, residuals), flow)
    torch.testing.assert_close(found, (sizes[0] / sizes[1]).detach(), rtol=1e-6, atol=0)
    assert not found.requires_grad
