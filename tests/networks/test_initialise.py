"""Networks of two times made from networks of one."""

import pytest
import torch

import flowmaps as fm
from flowmaps import networks as nets
from flowmaps.networks.initialise import at_shifted_times
from flowmaps.serialise import build as rebuild
from flowmaps.serialise import describe
from tests.networks.support import CLASSES, NETWORKS, SINGLE_LAYER, build, inputs, labels, perturbed

TWO_TIMES = ("gap", "pair", "decoupled", "expanded")
CASES = [
    (name, times) for name in NETWORKS for times in TWO_TIMES if (name in SINGLE_LAYER, times) != (True, "decoupled")
]
EVERY_CASE = pytest.mark.parametrize(("name", "times"), CASES)


def one_time(name, **options):
    return perturbed(build(name, "source_only", classes=CLASSES, **options).double())


@EVERY_CASE
def test_at_equal_times_it_is_the_network_it_came_from(name, times):
    """To the bit, except where the first weights had to be turned."""
    old = one_time(name)
    new = nets.two_times(old, nets.TIME_CONDITIONINGS[times])
    x, s, t = inputs()
    expected = old(x, s, t, label=labels())
    assert type(new) is type(old)
    if times == "expanded":
        torch.testing.assert_close(new(x, s, s, label=labels()), expected, rtol=1e-9, atol=1e-11)
    else:
        assert torch.equal(new(x, s, s, label=labels()), expected)
    elsewhere = (new(x, s, t, label=labels()) - expected).abs().max()
    assert elsewhere == 0 if times in ("gap", "pair") else elsewhere > 1e-4


@EVERY_CASE
def test_gradients_reach_every_weight_and_no_other_network(name, times):
    old = one_time(name)
    new = nets.two_times(old, nets.TIME_CONDITIONINGS[times])
    x, s, t = inputs(batch=6)
    new(x, s, t, label=torch.tensor([0, 1, 2, 3, 0, 1])).square().sum().backward()
    for key, weight in new.named_parameters():
        assert weight.grad is not None and weight.grad.any(), key
    assert all(weight.grad is None for weight in old.parameters())
    added = sum(weight.numel() for weight in new.parameters()) - sum(weight.numel() for weight in old.parameters())
    assert (added > 0) == (times in ("gap", "pair"))


@pytest.mark.parametrize("times", [nets.gap, nets.pair])
def test_the_weights_of_the_new_time_take_part_in_the_gradient(times):
    new = nets.two_times(one_time("mlp"), times)
    reader = new.conditioning.time.inner
    x, s, t = inputs()
    new(x, s, t).square().sum().backward()
    seen, added = reader.weight.split(reader.sizes, dim=1)
    gradient = reader.weight.grad.split(reader.sizes, dim=1)[1]
    assert seen.any() and not added.any() and gradient.abs().max() > 1e-3


def test_a_later_share_of_decoupled_layers_is_kept():
    new = nets.two_times(one_time("dit"), nets.Decoupled(0.4))
    assert [layers for _, layers in new.conditioning.times(0.5, 0.2, 3)] == [1, 2]


@EVERY_CASE
def test_the_new_network_is_described(name, times):
    new = nets.two_times(one_time(name).float(), nets.TIME_CONDITIONINGS[times])
    again = rebuild(describe(new))
    again.load_state_dict(new.state_dict())
    x, s, t = inputs(dtype=torch.float32)
    assert torch.equal(again(x, s, t, label=labels()), new(x, s, t, label=labels()))


@pytest.mark.parametrize("features", [nets.raw, nets.Fourier(5, 0.5, 20.0)])
@pytest.mark.parametrize("shift", [1.0, -0.3])
def test_shifted_features(features, shift):
    time = torch.linspace(0, 1, 9, dtype=torch.float64)
    turn, offset = at_shifted_times(features, shift, time)
    torch.testing.assert_close(features(time + shift) @ turn.T + offset, features(time), rtol=0, atol=1e-13)


def test_a_flow_map_starts_from_the_velocity_of_its_teacher():
    teacher = fm.FlowMap(one_time("mlp"), fm.Endpoint(), fm.path.trigonometric)
    flow = fm.FlowMap(nets.two_times(teacher.network), teacher.output, teacher.path)
    x, s, t = inputs()
    torch.testing.assert_close(flow.velocity(x, s), teacher.velocity(x, s), rtol=0, atol=0)
    # one jump of the start is one step of DDIM: along the teacher's denoiser, held still
    ratio = (flow.path.sigma(t) / flow.path.sigma(s)).reshape(-1, 1, 1, 1)
    alpha = [flow.path.alpha(time).reshape(-1, 1, 1, 1) for time in (s, t)]
    expected = ratio * x + (alpha[1] - ratio * alpha[0]) * teacher.denoise(x, s)
    torch.testing.assert_close(flow(x, s, t), expected, rtol=1e-9, atol=1e-10)


def test_mode_dtype_and_options_are_kept():
    old = one_time("concat_mlp").eval()
    new = nets.two_times(old)
    assert not new.training and not any(part.training for part in new.modules())
    assert next(new.parameters()).dtype == torch.float64 and new.data_std == old.data_std
    assert nets.two_times(one_time("in_basis").train()).training


@pytest.mark.parametrize(
    ("make", "times", "message"),
    [
        (lambda: build("mlp", "pair"), nets.gap, "built with times=source_only, got MLP with times=pair"),
        (lambda: torch.nn.Linear(2, 2), nets.gap, "MLP, ConcatMLP, DiT, TokenTransformer, UNet built .* got Linear$"),
        (lambda: build("in_basis", "gap"), nets.gap, "got MLP with times=gap"),
        (lambda: one_time("unet"), nets.gap_only, "times=gap_only does not show s where s = t"),
        (lambda: one_time("unet"), nets.none, "times=none does not show s where s = t"),
        (lambda: one_time("concat_mlp"), nets.decoupled, "at least 2 layers"),
        (lambda: one_time("mlp", features=torch.exp), nets.expanded, "Fourier or raw, got exp"),
    ],
)
def test_what_cannot_be_done_is_refused(make, times, message):
    with pytest.raises(ValueError, match=message):
        nets.two_times(make(), times)
