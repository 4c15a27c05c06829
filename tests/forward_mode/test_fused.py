"""Tangents with gradients written by hand: twice more differentiable, in pieces as whole, and what they store."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.graph import saved_tensors_hooks

from flowmaps.forward_mode.dual import Dual
from flowmaps.forward_mode.fused import PIECE, in_pieces

F64 = torch.float64
FUSED = {
    "gelu": F.gelu,
    "tanh gelu": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "rms_norm": lambda x: F.rms_norm(x, (5,), eps=1e-3),
    "rms_norm of two": lambda x: F.rms_norm(x, (2, 5), eps=1e-3),
    "layer_norm": lambda x: F.layer_norm(x, (5,)),
    "group_norm": lambda x: F.group_norm(x, 2),
}


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FUSED)
def test_first_and_second_gradients_through_the_tangent(name):
    def tangent(x, dx):
        return FUSED[name](Dual(x, dx)).tangent

    inputs = draw(3, 2, 5).requires_grad_(), draw(3, 2, 5, seed=1).requires_grad_()
    assert gradcheck(tangent, inputs) and gradgradcheck(tangent, inputs)


@pytest.mark.parametrize("name", FUSED)
def test_the_tangent_is_the_same_with_and_without_a_graph(name):
    x, dx = draw(3, 2, 5), draw(3, 2, 5, seed=1)
    without = FUSED[name](Dual(x, dx)).tangent
    torch.testing.assert_close(FUSED[name](Dual(x.requires_grad_(), dx)).tangent, without, rtol=1e-12, atol=1e-13)


def test_pieces_make_the_whole():
    x, y = draw(3, PIECE).mT, draw(PIECE, 3, seed=1)
    pieces = []

    def formula(a, b):
        pieces.append(a.numel())
        return a * b.sin()

    with torch.no_grad():
        assert torch.equal(in_pieces(formula, x, y), x * y.sin())
    assert pieces == [PIECE] * 3


@pytest.mark.parametrize("name", ["gelu", "tanh gelu", "silu"])
def test_nothing_but_the_value_and_the_tangent_before_is_stored(name):
    x, dx = draw(3, 2, 5).requires_grad_(), draw(3, 2, 5, seed=1).requires_grad_()
    stored: dict[int, int] = {}

    def pack(y):
        stored[y.data_ptr()] = y.numel()
        return y

    with saved_tensors_hooks(pack, lambda y: y):
        y = FUSED[name](Dual(x, dx))
    assert y.tangent.requires_grad and set(stored) == {x.data_ptr(), dx.data_ptr()}
