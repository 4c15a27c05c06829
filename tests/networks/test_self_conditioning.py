"""A network that sees its own guess: two passes, half of the rows in training, forward mode and sampling."""

import pytest
import torch

import flowmaps as fm
from flowmaps.derivative import functorch, jvp
from tests.tokens import table

LAW = fm.exact.Categorical(table())


def flow():
    inner = fm.networks.TokenTransformer(3, 2, 8, 1, 2, self_conditioning=True)
    network = fm.networks.SelfConditioned(inner, fm.links.softmax)
    for weight in network.parameters():  # its last layer starts at zero
        torch.nn.init.normal_(weight, std=0.3)
    return fm.FlowMap(network, fm.Endpoint(link=fm.links.softmax)).double()


def test_the_second_pass_sees_the_first():
    made, x = flow(), torch.randn(6, 2, 3, dtype=torch.float64)
    s, t = torch.full((6,), 0.7, dtype=torch.float64), torch.full((6,), 0.3, dtype=torch.float64)
    inner = made.network.network
    blind = inner(x, s, t)
    seen = inner(x, s, t, estimate=blind.softmax(-1))
    assert not torch.allclose(blind, seen)
    torch.testing.assert_close(made.eval().value(x, s, t), seen)
    torch.testing.assert_close(
        made.train().value(x, s, t), torch.where(torch.arange(6)[:, None, None] % 2 == 1, seen, blind)
    )


def test_it_learns_jumps_derivatives_and_samples():
    """The derivative passes through the guess; the gradient of the weights does not."""
    torch.manual_seed(0)
    made, x = flow().eval(), torch.randn(4, 2, 3, dtype=torch.float64)
    s, t = (torch.full((4, 1, 1), time, dtype=torch.float64) for time in (0.8, 0.3))
    found = [derivative(made.value, (x, s, t), (x, 1, 0))[1] for derivative in (jvp, functorch)]
    torch.testing.assert_close(*found)
    for method in (fm.methods.dfm_psd(), fm.methods.dfm_lsd(), fm.methods.flm()):
        method.loss(made.train(), LAW.sample(8)).value.backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in made.parameters())
    assert fm.sample(made.eval(), x, 2).shape == x.shape


def test_a_guess_needs_a_function():
    with pytest.raises(TypeError, match="a link is a function"):
        fm.networks.SelfConditioned(fm.networks.TokenTransformer(3, 2, 8, 1, 2, self_conditioning=True), "softmax")
