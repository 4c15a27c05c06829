"""The transformer over tokens: its derivatives, positions, order, conditions, description and errors."""

import warnings

import pytest
import torch

import flowmaps as fm
from flowmaps import derivative
from flowmaps.networks.layers import Rotary
from flowmaps.serialise import build, describe
from tests.networks.support import perturbed
from tests.networks.test_forward_mode import central_difference

LENGTH, SYMBOLS, CLASSES = 5, 4, 3


def network(**options):
    torch.manual_seed(0)
    options = {"width": 16, "depth": 2, "heads": 2, "classes": CLASSES, "self_conditioning": True, **options}
    return fm.networks.TokenTransformer(SYMBOLS, LENGTH, **options)


def inputs(batch=3, seed=1):
    g = torch.Generator().manual_seed(seed)
    x, estimate = torch.randn(2, batch, LENGTH, SYMBOLS, generator=g, dtype=torch.float64)
    s, t = torch.rand(2, batch, generator=g, dtype=torch.float64)
    return x, s, t, estimate


def test_it_starts_with_zero_logits_and_every_weight_gets_a_gradient():
    x, s, t, estimate = inputs()
    assert not network().double()(x, s, t).any()
    moved = perturbed(network()).double()
    moved(x, s, t, torch.tensor([0, 2, CLASSES]), estimate).square().sum().backward()
    assert [name for name, weight in moved.named_parameters() if weight.grad is None] == []
    assert all(weight.grad.any() for name, weight in moved.named_parameters() if "table" not in name)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"times": fm.networks.decoupled, "checkpoint": True}])
def test_dual_numbers_equal_central_differences(options):
    moved = perturbed(network(**options)).double()
    x, s, t, estimate = inputs()
    dx, ds, dt, change = inputs(seed=2)

    def f(x, s, t, estimate):
        return moved(x, s, t, torch.tensor([0, 1, 2]), estimate)

    point, along = (x, s, t, estimate), (dx, ds - 0.5, dt - 0.5, change)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an operation without a rule of its own would warn
        value, slope = derivative.jvp(f, point, along)
    torch.testing.assert_close(value, f(*point), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(slope, central_difference(f, point, along), rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore:attention runs unfused")
def test_torchs_forward_mode_agrees_on_causal_attention():
    moved = perturbed(network(causal=True)).double()
    x, s, t, _ = inputs()
    dx, ds, dt, _ = inputs(seed=2)
    _, ours = derivative.jvp(moved, (x, s, t), (dx, ds, dt))
    _, theirs = torch.func.jvp(moved, (x, s, t), (dx, ds, dt))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_a_causal_network_sees_no_later_position():
    x, s, t, _ = inputs()
    later = x.clone()
    later[:, 3:] += 1
    for causal in (True, False):
        moved = perturbed(network(causal=causal)).double()
        before, after = moved(x, s, t), moved(later, s, t)
        assert torch.equal(before[:, :3], after[:, :3]) == causal
        assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_rotary_products_depend_on_the_distance_alone_and_the_network_on_the_order():
    place = Rotary(9, 6).double()
    q, k = torch.randn(2, 1, 1, 1, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    products = place(q.expand(1, 1, 9, 6)) @ place(k.expand(1, 1, 9, 6)).transpose(-1, -2)
    for distance in range(-8, 9):
        band = products[0, 0].diagonal(distance)
        torch.testing.assert_close(band, band[:1].expand_as(band), rtol=0, atol=1e-6)  # the angles are float32
    torch.testing.assert_close(products[0, 0, 0, 0], (q * k).sum(), rtol=1e-12, atol=1e-12)
    moved = perturbed(network()).double()
    x, s, t, _ = inputs()
    assert not torch.allclose(moved(x.flip(1), s, t), moved(x, s, t).flip(1))


def test_its_description_rebuilds_it():
    first = perturbed(network(causal=True))
    again = build(describe(first))
    again.load_state_dict(first.state_dict())
    x, s, t, estimate = (part.float() for part in inputs())
    assert torch.equal(again(x, s, t, 1, estimate), first(x, s, t, 1, estimate))
    assert describe(again) == describe(first)


def test_other_sizes_and_conditions_are_refused():
    x, s, t, estimate = inputs()
    with pytest.raises(ValueError, match="even multiple of .*got 6 and 2 heads"):
        network(width=6)
    with pytest.raises(ValueError, match="odd number 3"):
        Rotary(9, 3)
    with pytest.raises(ValueError, match=r"\(B, 5, 4\), got \(3, 5, 3\)"):
        network().double()(x[..., :3], s, t)
    with pytest.raises(ValueError, match=r"\(B, 5, 4\), got \(3, 4, 4\)"):
        network().double()(x, s, t, None, estimate[:, :4])
    with pytest.raises(ValueError, match="without self_conditioning"):
        network(self_conditioning=False).double()(x, s, t, None, estimate)
    with pytest.raises(TypeError, match="causal must be True or False"):
        network(causal=1)
