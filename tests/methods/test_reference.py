"""Value and gradient of every method against its formula, written out with torch.func.jvp and detach."""

import pytest
import torch

import flowmaps as fm
from flowmaps.methods import LANDSCAPE
from tests.methods.support import DISTILLED, Network, batch, build

X0, EPS, (S, T) = batch()
s, t = S[:, None], T[:, None]
x, u = (1 - s) * X0 + s * EPS, EPS - X0


def jvp(f, primals, tangents):
    """Value and derivative of f(x, s, t), on the graph."""
    full = tuple(torch.as_tensor(d, dtype=p.dtype).expand_as(p) for p, d in zip(primals, tangents, strict=True))
    return torch.func.jvp(f, primals, full)


def mean_square(residual):
    return (residual**2).mean()


def diffusion(V, v):
    return mean_square(V(x, s, s) - v)


def lagrangian(V, v, keep_slope, keep_target):
    value, slope = jvp(V, (x, s, t), (0.0, 0.0, 1.0))
    end = x + (t - s) * value
    target = v(end, t) if keep_target else v(end.detach(), t).detach()
    return mean_square(value + (t - s) * (slope if keep_slope else slope.detach()) - target)


def eulerian(V, v, along, keep_time, keep_space):
    v, along = v.detach(), along.detach()
    value, in_time = jvp(V, (x, s, t), (0.0, 1.0, 0.0))
    _, in_space = jvp(V, (x, s, t), (along, 0.0, 0.0))
    slope = (in_time if keep_time else in_time.detach()) + (in_space if keep_space else in_space.detach())
    return mean_square(value - v - (t - s) * slope)


def compositional(V, jumps, g):
    m = g * s + (1 - g) * t
    first = jumps(x, s, m)
    second = jumps(x + (m - s) * first, m, t)
    return mean_square(V(x, s, t) - ((1 - g) * first + g * second).detach())


REFERENCES = {
    "flow_matching": lambda V, W, g: diffusion(V, u),
    "lmd": lambda V, W, g: lagrangian(V, lambda y, r: W(y, r, r), True, True),
    "lsd": lambda V, W, g: 0.75 * diffusion(V, u) + 0.25 * lagrangian(V, lambda y, r: V(y, r, r), True, False),
    "ayf_lmd": lambda V, W, g: lagrangian(V, lambda y, r: W(y, r, r), False, False),
    "emd": lambda V, W, g: eulerian(V, W(x, s, s), W(x, s, s), True, True),
    "esd": lambda V, W, g: 0.75 * diffusion(V, u) + 0.25 * eulerian(V, V(x, s, s), V(x, s, s), True, False),
    "ayf_emd": lambda V, W, g: eulerian(V, W(x, s, s), W(x, s, s), False, False),
    "meanflow": lambda V, W, g: 0.75 * diffusion(V, u) + 0.25 * eulerian(V, u, u, False, False),
    "imf": lambda V, W, g: 0.5 * diffusion(V, u) + 0.5 * eulerian(V, u, V(x, s, s), False, False),
    "shortcut": lambda V, W, g: 0.75 * diffusion(V, u) + 0.25 * compositional(V, V, 0.5),
    "splitmeanflow": lambda V, W, g: 0.5 * diffusion(V, W(x, s, s).detach()) + 0.5 * compositional(V, V, g),
    "psd": lambda V, W, g: 0.75 * diffusion(V, u) + 0.25 * compositional(V, V, g),
    "pfmm": lambda V, W, g: compositional(V, W, 0.5),
}


def as_average_velocity(network):
    return lambda y, a, b: network(y, a[:, 0], b[:, 0])


@pytest.mark.parametrize("name", REFERENCES)
def test_gradient_is_that_of_the_formula(name):
    flow, teacher = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    method = build(name, teacher if name in DISTILLED else None)
    torch.manual_seed(9)
    loss = method.loss(flow, X0, noise=EPS, times=(S, T)).value
    torch.manual_seed(9)
    g = torch.rand(len(X0), 1, dtype=torch.float64)  # the same draw of the split
    expected = REFERENCES[name](*map(as_average_velocity, (flow.network, teacher.network)), g)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    found, wanted = (torch.autograd.grad(value, list(flow.parameters())) for value in (loss, expected))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_every_row_of_the_landscape_has_a_reference():
    assert set(REFERENCES) == {row.name for row in LANDSCAPE}


def test_the_drawn_split_is_what_progressive_self_distillation_averages():
    """psd with the midpoint is the formula at g = 1/2."""
    flow = fm.FlowMap(Network(seed=1))
    V = as_average_velocity(flow.network)
    loss = build("psd", split=fm.consistency.midpoint).loss(flow, X0, noise=EPS, times=(S, T)).value
    torch.testing.assert_close(loss, 0.75 * diffusion(V, u) + 0.25 * compositional(V, V, 0.5))


def test_improved_meanflow_along_the_conditional_velocity_is_meanflow():
    """The identity that the paper starts from: with the same tangent both have one gradient."""
    flow = fm.FlowMap(Network(seed=1))
    V = as_average_velocity(flow.network)
    loss = fm.methods.meanflow(weight=fm.weight.squared).loss(flow, X0, noise=EPS, times=(S, T))
    W = V(x, s, t) + (s - t) * jvp(V, (x, s, t), (u, 1.0, 0.0))[1].detach()
    torch.testing.assert_close(loss.terms["eulerian"].value, mean_square(W - u))
