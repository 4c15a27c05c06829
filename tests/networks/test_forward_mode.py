"""Derivatives along (x, s, t): torch's forward mode and the library's own against central differences in float64."""

import warnings

import pytest
import torch

from flowmaps import derivative
from flowmaps.networks.layers import attention
from tests.networks.support import CASES, CLASSES, build, inputs, labels, perturbed


def directions():
    dx, ds, dt = inputs(seed=3)
    return dx, ds - 0.5, dt - 0.5


def case(name, times):
    network = perturbed(build(name, times, classes=CLASSES)).double()
    return (lambda x, s, t: network(x, s, t, label=labels())), network


def central_difference(f, point, tangents, h=1e-4):
    def step(k):
        return f(*(p + k * h * d for p, d in zip(point, tangents, strict=True)))

    return (8 * (step(1) - step(-1)) - (step(2) - step(-2))) / (12 * h)  # error of order h^4


@pytest.mark.filterwarnings("ignore:attention runs unfused")
@pytest.mark.parametrize(("name", "times"), CASES)
def test_torch_forward_mode_equals_central_differences(name, times):
    f, _ = case(name, times)
    _, slope = torch.func.jvp(f, inputs(), directions())
    expected = central_difference(f, inputs(), directions())
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "times"), CASES)
def test_dual_numbers_equal_central_differences(name, times):
    f, _ = case(name, times)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an operation without a rule of its own would warn
        value, slope = derivative.jvp(f, inputs(), directions())
    torch.testing.assert_close(value, f(*inputs()), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(slope, central_difference(f, inputs(), directions()), rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore:attention runs unfused")
@pytest.mark.parametrize(("name", "times"), [(name, times) for name, times in CASES if times in ("pair", "decoupled")])
def test_gradients_of_a_derivative_agree_between_the_two_engines(name, times):
    f, network = case(name, times)
    gradients = []
    for engine in (derivative.jvp, derivative.functorch):
        network.zero_grad()
        _, slope = engine(f, inputs(), (directions()[0], 1, 0))
        slope.square().sum().backward()
        gradients.append([weight.grad for weight in network.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        if ours is None or theirs is None:  # a weight that the derivative does not depend on
            assert not any(g is not None and g.any() for g in (ours, theirs))
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_attention_says_when_it_runs_unfused():
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64)
    with pytest.warns(UserWarning, match="unfused"):
        value, _ = torch.func.jvp(attention, (q, k, v), (q, k, v))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = attention(q, k, v)
    torch.testing.assert_close(value, fused, rtol=1e-12, atol=1e-12)
