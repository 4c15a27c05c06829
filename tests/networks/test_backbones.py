"""Backbones: no context sees its own frame, and frame by frame they compute the same contexts as all at once."""

import pytest
import torch

import flowmaps as fm
from flowmaps.networks.backbones import CausalTransformer, Recurrent

MAKERS = {
    "transformer": lambda **options: CausalTransformer(3, 16, 2, 2, **options),
    "window": lambda **options: CausalTransformer(3, 16, 2, 2, window=4, **options),
    "recurrent": lambda **options: Recurrent(3, 16, 2, **options),
}


@pytest.fixture(params=MAKERS)
def backbone(request):
    torch.manual_seed(0)
    return MAKERS[request.param](classes=4).double()


def test_frame_by_frame_equals_all_at_once(backbone):
    past, label = torch.randn(5, 9, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4])
    contexts = backbone(past, label)
    assert contexts.shape == (5, 9, backbone.size)
    state, frame = backbone.begin(5, label), None
    for k in range(9):
        context, state = backbone.next(state, frame)
        torch.testing.assert_close(context, contexts[:, k], atol=1e-12, rtol=0)
        frame = past[:, k]


def test_a_context_sees_the_frames_before_it_alone(backbone):
    past = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(backbone(past, 1)[:, 5].sum(), past)
    assert bool((gradient[:, 5:] == 0).all()) and bool((gradient[:, 4] != 0).any())


def test_a_window_bounds_what_is_seen():
    """Two blocks with a window of 4 reach 7 inputs back; the cache holds the window."""
    backbone = MAKERS["window"]().double()
    past = torch.randn(1, 12, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(backbone(past)[:, 11].sum(), past)
    seen = gradient[0].abs().sum(1) > 0
    assert seen.tolist() == [False] * 4 + [True] * 7 + [False]
    state, frame = backbone.begin(1), None
    for k in range(12):
        _, state = backbone.next(state, frame)
        frame = past[:, k]
    assert all(keys.shape[2] == 4 for keys, _ in state.keys)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="even multiple"):
        CausalTransformer(3, 10, 1, 4)
    with pytest.raises(ValueError, match=r"takes sequences \(B, T, 3\)"):
        Recurrent(3, 8)(torch.randn(2, 5, 4))
    with pytest.raises(ValueError, match="without classes"):
        Recurrent(3, 8)(torch.randn(2, 5, 3), label=torch.tensor([0, 1]))
    head = fm.networks.Head(3, context=8, width=8, depth=1)
    with pytest.raises(ValueError, match="contexts of 8 numbers"):
        head(torch.randn(2, 3), torch.rand(2), torch.rand(2), torch.randn(2, 9))


def test_a_backbone_without_a_step_is_refused():
    head = fm.networks.Head(3, context=3, width=8, depth=1)
    with pytest.raises(TypeError, match="no method 'begin'"):
        fm.networks.WithBackbone(head, torch.nn.Linear(3, 3))
    backbone = Recurrent(3, 3)
    del backbone.size
    with pytest.raises(TypeError, match="no `size`"):
        fm.networks.WithBackbone(head, backbone, ends=True)


def test_the_head_has_derivatives_in_forward_mode():
    torch.manual_seed(0)
    head = fm.networks.Head(3, context=4, width=8, depth=2).double()
    torch.nn.init.normal_(head.output.weight)
    flow = fm.FlowMap(head).given(context=torch.randn(6, 4, dtype=torch.float64))
    x, s, t = torch.randn(6, 3, dtype=torch.float64), torch.full((6, 1), 0.8).double(), torch.full((6, 1), 0.3).double()
    by = [
        derivative(flow.average_velocity, (x, s, t), (x, 1, 0))[1]
        for derivative in (fm.derivative.jvp, fm.derivative.functorch)
    ]
    torch.testing.assert_close(*by)
