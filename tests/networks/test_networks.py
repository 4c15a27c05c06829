"""What every network keeps to: shape, start at zero, conditioning, gradients, description, errors."""

import math

import pytest
import torch
from safetensors.torch import load, save

from flowmaps import networks as nets
from flowmaps.serialise import build as rebuild
from flowmaps.serialise import describe
from tests.networks.support import CASES, CLASSES, NETWORKS, PLAIN_START, SINGLE_LAYER, build, inputs, labels, perturbed


@pytest.mark.parametrize(("name", "times"), CASES)
def test_shape_dtype_and_start_at_zero(name, times):
    network = build(name, times)
    x, s, t = inputs(dtype=torch.float32)
    out = network(x, s, t)
    assert out.shape == x.shape and out.dtype == x.dtype
    assert name in PLAIN_START or not out.any()


@pytest.mark.parametrize(("name", "times"), CASES)
def test_gradient_reaches_every_parameter(name, times):
    network = perturbed(build(name, times, classes=CLASSES)).double()
    x, s, t = inputs(batch=6)
    out = network(x, s, t, label=torch.tensor([0, 1, 2, 3, 0, 1]))
    out.square().sum().backward()
    missing = [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert missing == []


@pytest.mark.parametrize(("name", "times"), CASES)
def test_depends_on_the_times_it_is_shown_and_on_no_other(name, times):
    network = perturbed(build(name, times)).double()
    x, s, t = inputs()
    base = network(x, s, t)

    def changes(ds, dt):
        return not torch.allclose(network(x, s + ds, t + dt), base, rtol=1e-9, atol=1e-12)

    expected = {
        "pair": (True, True, True),
        "gap": (True, True, True),
        "gap_only": (True, True, False),
        "source_only": (True, False, True),
        "decoupled": (True, True, True),
        "expanded": (True, True, True),
        "none": (False, False, False),
    }
    if name.startswith("gaussian"):  # it scales x by s
        expected |= {"gap_only": (True, True, True), "none": (True, False, True)}
    assert (changes(0.1, 0), changes(0, 0.1), changes(0.1, 0.1)) == expected[times]


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - SINGLE_LAYER))
def test_decoupled_at_equal_times_is_the_one_time_network(name):
    two = perturbed(build(name, "decoupled", classes=CLASSES)).double()
    one = build(name, "source_only", classes=CLASSES).double()
    one.load_state_dict(two.state_dict())
    x, s, t = inputs()
    torch.testing.assert_close(two(x, s, s, label=labels()), one(x, s, t, label=labels()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_classes(name):
    network = perturbed(build(name, classes=CLASSES)).double()
    x, s, t = inputs()
    null = torch.full((len(x),), CLASSES)
    torch.testing.assert_close(network(x, s, t), network(x, s, t, label=null), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(network(x, s, t), network(x, s, t, label=labels()))
    rows = [network(x[i : i + 1], s[i : i + 1], t[i : i + 1], label=int(labels()[i])) for i in range(len(x))]
    torch.testing.assert_close(network(x, s, t, label=labels()), torch.cat(rows), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match=r"0\.\.2.*got 9"):
        network(x, s, t, label=torch.tensor([0, 1, 9, 2]))
    with pytest.raises(ValueError, match="built without classes"):
        build(name)(x.float(), s.float(), t.float(), label=labels())


@pytest.mark.parametrize(("name", "times"), CASES)
def test_description_rebuilds_the_network(name, times):
    network = perturbed(build(name, times, classes=CLASSES))
    again = rebuild(describe(network))
    again.load_state_dict(load(save(network.state_dict())))
    x, s, t = inputs(dtype=torch.float32)
    assert torch.equal(again(x, s, t, label=labels()), network(x, s, t, label=labels()))
    assert describe(again) == describe(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_autocast_gives_finite_results_near_those_of_float32(name):
    network = perturbed(build(name))
    x, s, t = inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, s, t)
    high = network(x, s, t)
    assert low.dtype == torch.float32 and low.isfinite().all()
    assert (low - high).norm() < 0.05 * high.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_x_of_another_shape_is_refused(name):
    _, s, t = inputs(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"\(B, 2, 8, 8\), got \(4, 1, 8, 16\)"):
        build(name)(torch.zeros(4, 1, 8, 16), s, t)


def test_residual_mlp_has_the_size_of_the_digits_network():
    network = nets.MLP((1, 8, 8), width=256, depth=4, embedding=128)
    assert 0.84e6 < sum(weight.numel() for weight in network.parameters()) < 0.86e6


def test_checkerboard_network_written_out():
    network = nets.ConcatMLP(2, width=512, depth=4, data_std=0.577).double()
    x, (s, t) = torch.randn(7, 2).double(), torch.rand(2, 7).double()
    layers = [network.input, *network.hidden]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(4, 512), *[(512, 512)] * 4]
    h = torch.stack([s, t, x[:, 0] / 0.577, x[:, 1] / 0.577], dim=1)
    for layer in layers:
        h = h @ layer.weight.T + layer.bias
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
    torch.testing.assert_close(network(x, s, t), 0.577 * network.output(h), rtol=1e-12, atol=1e-13)


def test_concatenated_times_keep_float32_under_autocast():
    network = nets.ConcatMLP(2, width=32, depth=1)
    x, one = torch.randn(5, 2), torch.ones(5)
    with torch.autocast("cpu", torch.bfloat16):
        moved = network._first(x, one - 1e-3, one) - network._first(x, one, one)
    assert (moved + 1e-3 * network.input.weight[:, 0]).abs().max() < 1e-6


@pytest.mark.parametrize("data_std", [0.5, 3.0])
@pytest.mark.parametrize("network", [nets.MLP, nets.ConcatMLP])
def test_data_std_scales_input_and_output(network, data_std):
    plain = perturbed(network(2, width=8, depth=2))
    scaled = network(2, width=8, depth=2, data_std=data_std)
    scaled.load_state_dict(plain.state_dict())
    x, (s, t) = torch.randn(4, 2), torch.rand(2, 4)
    torch.testing.assert_close(scaled(data_std * x, s, t), data_std * plain(x, s, t))


@pytest.mark.parametrize("shape", [0, (), (2, -1)])
def test_a_shape_without_entries_is_refused(shape):
    with pytest.raises(ValueError, match="positive number"):
        nets.MLP(shape)
