"""The plain steps that the benchmark times are the library's: value and gradient of the loss on the same numbers."""

import pytest
import torch

import flowmaps as fm
from benchmarks.baselines import MODULES, baseline

ROWS = 8


def flow():
    """A map in float64 whose output layer is not zero."""
    torch.manual_seed(0)
    network = fm.networks.MLP((2, 2), width=8, depth=1, embedding=8).double()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return fm.FlowMap(network)


def ours(name, network_flow, x0, eps, s, t, g):
    """The library's loss on given numbers: its terms take their rows in turn."""
    method = getattr(fm.methods, name)()
    drawn, start = [], 0
    for term in method.now(0.5):
        n = round(term.share * ROWS)
        rows = slice(start, start + n)
        start += n
        numbers = {key: g[rows].reshape(-1, 1, 1) for key in term.draws}
        times = (s[rows], s[rows] if term.diagonal else t[rows])
        drawn.append(fm.velocity.Pair(x0[rows], eps[rows], network_flow.path, {}, *times, numbers))
    method.follow(network_flow, 0.5)
    return method.measure(network_flow, drawn, 0.5).value


@pytest.mark.parametrize("name", MODULES)
def test_a_plain_step_has_the_same_loss_and_gradient(name):
    """To rounding in float64. The draws of the plain step, with t = s in the rows of the diagonal term."""
    ours_flow = flow()
    torch.manual_seed(1)
    x0 = torch.randn(ROWS, 2, 2, dtype=torch.float64)
    plain = baseline(name, ours_flow.network)
    eps, s, *others = (value.double() for value in plain.draw(x0))
    t = others[0] if others else s if name == "flow_matching" else torch.zeros_like(s)
    g = others[1] if len(others) > 1 else s
    weights = list(ours_flow.parameters())
    expected = plain.loss(ours_flow.network, x0, eps, s, *others)
    found = ours(name, ours_flow, x0, eps, s, t, g)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    for a, b in zip(torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)
