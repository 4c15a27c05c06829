"""Bounded modulation and spectral initialisation: what keeps a network's Lipschitz constant from growing."""

import math
import warnings

import pytest
import torch

from flowmaps import derivative
from flowmaps import networks as nets
from flowmaps.networks import dit as dit_module
from flowmaps.networks import mlp as mlp_module
from flowmaps.networks.layers import chunks
from flowmaps.serialise import build, describe
from tests.networks.support import CLASSES, IMAGE, inputs, labels, perturbed


def dit(**options):
    return nets.DiT.lipschitz(IMAGE, patch=4, width=16, depth=3, heads=2, **options)


def mlp(**options):
    return nets.MLP.lipschitz(IMAGE, width=16, depth=3, embedding=8, **options)


BOTH = pytest.mark.parametrize("make", [dit, mlp])


def linears(network):
    return [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


@BOTH
def test_spectral_initialisation_has_largest_singular_value_1_and_no_bias(make):
    network = make(classes=CLASSES)
    layers = [layer for layer in linears(network) if layer is not network.output]
    assert len(layers) >= 8
    for layer in layers:
        torch.testing.assert_close(torch.linalg.svdvals(layer.weight)[0], torch.tensor(1.0))
        assert not layer.bias.any()
    x, s, t = inputs(dtype=torch.float32)
    assert not network.output.weight.any() and not network(x, s, t).any()


def test_spectral_initialisation_leaves_layers_of_zeros_and_convolutions_alone():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(4, 5), torch.nn.Linear(5, 2, bias=False))
    kernel = network[0].weight.clone()
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.fill_(3.0)
    assert nets.spectral_(network) is network
    assert torch.equal(network[0].weight, kernel) and (network[1].bias == 3).all() and not network[1].weight.any()
    assert torch.linalg.svdvals(network[2].weight)[0].item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize(("make", "module"), [(dit, dit_module), (mlp, mlp_module)])
def test_no_weights_and_no_times_push_a_modulation_over_its_bound(make, module, size, monkeypatch):
    """The root mean square of each chunk is at most 1, each entry at most sqrt(width)."""
    seen = []

    def spying(*args):
        pieces = chunks(*args)
        seen.extend(pieces)
        return pieces

    monkeypatch.setattr(module, "chunks", spying)
    network = make(classes=CLASSES).double()
    with torch.no_grad():
        network.modulation.weight.normal_(0, size)
        network.modulation.bias.normal_(0, size)
    x, s, t = inputs()
    network(x, s, t, label=labels())
    width = 16
    assert len(seen) == (6 * 3 + 2 if make is dit else 2 * 3)
    for chunk in seen:
        assert chunk.shape[-1] == width
        assert chunk.square().mean(-1).max() < 1 + 1e-12 and chunk.abs().max() < math.sqrt(width) + 1e-12
    assert size < 1 or min(chunk.square().mean(-1).min() for chunk in seen) > 0.99  # reached, so no lower bound holds


@BOTH
def test_all_bounds_are_on_and_each_can_be_replaced(make):
    network = make()
    assert network._arguments["times"] is nets.gap and network._arguments["modulate"] is nets.rms_norm
    assert not any("norm" in key for key in network.state_dict())  # no learned gain undoes a bound
    assert make(times=nets.pair)._arguments["times"] is nets.pair


@BOTH
def test_description_rebuilds_the_network(make):
    network = perturbed(make(classes=CLASSES))
    again = build(describe(network))
    again.load_state_dict(network.state_dict())
    x, s, t = inputs(dtype=torch.float32)
    assert torch.equal(again(x, s, t, label=labels()), network(x, s, t, label=labels()))


@BOTH
@pytest.mark.filterwarnings("ignore:attention runs unfused")
def test_forward_mode_equals_that_of_torch(make):
    network = perturbed(make(classes=CLASSES)).double()
    directions = inputs(seed=3)

    def f(x, s, t):
        return network(x, s, t, label=labels())

    expected, slope = torch.func.jvp(f, inputs(), directions)
    for engine in (derivative.jvp, derivative.detached):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value, d = engine(f, inputs(), directions)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(d, slope, rtol=1e-9, atol=1e-11)


@BOTH
def test_gradient_reaches_every_parameter(make):
    network = perturbed(make(classes=CLASSES)).double()
    x, s, t = inputs(batch=6)
    network(x, s, t, label=torch.tensor([0, 1, 2, 3, 0, 1])).square().sum().backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []
