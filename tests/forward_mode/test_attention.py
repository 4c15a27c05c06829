"""Attention under a derivative against torch.func.jvp, and what it holds, stores and chooses."""

import functools
import importlib.util
import os
import sys
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from flowmaps import derivative
from flowmaps.forward_mode import blocks, flash
from flowmaps.forward_mode.blocks import SCORES_PER_BLOCK, AttentionTangent, Scores
from flowmaps.forward_mode.dual import Detached, Dual

F64 = torch.float64
ALL = (0, 1, 2)
MOVING = [ALL, (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed + sum(shape)))


def seen(*shape):
    """A mask under which each query sees the first key and some others."""
    mask = draw(*shape) > 0.3
    mask[..., 0] = True
    return mask


ATTENTIONS = {
    "plain": ((2, 3, 5, 4), (2, 3, 7, 4), {}),
    "of one head": ((5, 4), (7, 4), {"scale": 0.3}),
    "of rows": ((3, 5, 4), (3, 7, 4), {"scale": 2.0}),
    "broadcast": ((2, 1, 5, 4), (3, 7, 4), {}),
    "causal": ((2, 3, 6, 4), (2, 3, 6, 4), {"is_causal": True}),
    "causal across": ((2, 5, 4), (2, 7, 4), {"is_causal": True}),
    "grouped": ((2, 6, 5, 4), (2, 2, 7, 4), {"enable_gqa": True}),
    "grouped causal": ((2, 4, 5, 4), (2, 2, 5, 4), {"enable_gqa": True, "is_causal": True, "scale": 0.7}),
    "mask": ((2, 3, 5, 4), (2, 3, 7, 4), {"attn_mask": seen(5, 7)}),
    "mask of keys": ((2, 3, 5, 4), (2, 3, 7, 4), {"attn_mask": seen(2, 1, 1, 7)}),
    "mask of rows": ((2, 3, 5, 4), (2, 3, 7, 4), {"attn_mask": seen(2, 1, 5, 7)}),
    "mask of heads": ((2, 3, 5, 4), (2, 3, 7, 4), {"attn_mask": seen(3, 5, 7), "scale": 0.3}),
    "bias": ((2, 3, 5, 4), (2, 3, 7, 4), {"attn_mask": draw(3, 5, 7)}),
    "bias of a grouped": ((2, 4, 5, 4), (2, 2, 7, 4), {"attn_mask": draw(2, 4, 5, 7), "enable_gqa": True}),
}


def case(name, moving):
    """(attention of q, k, v), its inputs and the directions of those that move."""
    queries, keys, options = ATTENTIONS[name]
    inputs = draw(*queries), draw(*keys, seed=1), draw(*keys[:-1], 3, seed=2)
    directions = [draw(*inputs[i].shape, seed=5 + i) for i in moving]
    return (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)), inputs, directions


def by_duals(f, inputs, directions, moving=ALL, kind=Dual):
    along = dict(zip(moving, directions, strict=True))
    y = f(*(kind(x, along[i]) if i in moving else x for i, x in enumerate(inputs)))
    return y.primal, y.tangent


def by_torch(f, inputs, directions, moving=ALL):
    def at(*moved):
        along = dict(zip(moving, moved, strict=True))
        return f(*(along.get(i, x) for i, x in enumerate(inputs)))

    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.jvp(at, tuple(inputs[i] for i in moving), tuple(directions))


def gradients(results, tensors):
    weighted = sum((y * draw(*y.shape, seed=9 + i)).sum() for i, y in enumerate(results))
    return torch.autograd.grad(weighted, tensors, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("block", [1, 15, 80, 10**6])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_value_tangent_and_gradients_equal_those_of_torch(name, block, monkeypatch):
    monkeypatch.setitem(SCORES_PER_BLOCK, "cpu", block)
    for moving in MOVING if block == 15 else [ALL]:
        f, inputs, directions = case(name, moving)
        tensors = [x.requires_grad_() for x in (*inputs, *directions)]
        ours, theirs = by_duals(f, inputs, directions, moving), by_torch(f, inputs, directions, moving)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(gradients(ours, tensors), gradients(theirs, tensors), rtol=1e-9, atol=1e-11)
        with torch.no_grad():
            torch.testing.assert_close(by_duals(f, inputs, directions, moving, Detached), ours)


def test_second_gradients(monkeypatch):
    monkeypatch.setitem(SCORES_PER_BLOCK, "cpu", 8)

    def f(x, dx):
        q, v = Dual(x, dx), Dual(x * x, 2 * x * dx)
        y = F.scaled_dot_product_attention(q, q.sin(), v)
        return y.primal, y.tangent

    inputs = draw(2, 3, 2).requires_grad_(), draw(2, 3, 2, seed=1).requires_grad_()
    assert gradcheck(f, inputs) and gradgradcheck(f, inputs)


def test_a_query_that_sees_no_key_has_the_value_zero_that_stands_still():
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2] = False
    x, dx = draw(2, 5, 4).requires_grad_(), draw(2, 5, 4, seed=1)
    y = F.scaled_dot_product_attention(Dual(x, dx), Dual(x, dx), Dual(x, dx), mask)
    assert torch.equal(y.primal[:, 2], torch.zeros(2, 4, dtype=F64))
    assert torch.equal(y.tangent[:, 2], torch.zeros(2, 4, dtype=F64))
    assert torch.autograd.grad((y.primal + y.tangent).sum(), x)[0].isfinite().all()


def test_masks_that_move_or_learn():
    x, dx, bias, dbias = draw(2, 5, 4), draw(2, 5, 4, seed=1), draw(5, 5).requires_grad_(), draw(5, 5, seed=1)

    def f(x, bias):
        return F.scaled_dot_product_attention(x, x.sin(), x.cos(), bias)

    for moving in ((0,), (1,), (0, 1)):
        directions = [(dx, dbias)[i] for i in moving]
        ours = by_duals(f, (x, bias), directions, moving)
        theirs = by_torch(f, (x, bias), directions, moving)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradients(ours, [bias]), gradients(theirs, [bias]))


class LargestResult(TorchDispatchMode):
    """The most elements of a tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for y in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(y, torch.Tensor):
                self.elements = max(self.elements, y.numel())
        return result


@pytest.mark.parametrize("mask", [None, "rows"])
@pytest.mark.parametrize("kind", [Dual, Detached])
def test_no_more_than_one_block_of_scores_is_held_and_none_is_stored(kind, mask, monkeypatch):
    """96 queries and keys of 4 heads of 2 channels: 36864 scores, 768 numbers in each of q, k, v and their tangents."""
    monkeypatch.setitem(SCORES_PER_BLOCK, "cpu", 1000)
    inputs = [torch.randn(2, 2, 96, 2, requires_grad=True) for _ in range(6)]
    seen = None if mask is None else torch.rand(2, 1, 1, 96) > 0.3
    stored: dict[int, int] = {}

    def pack(x):
        stored[x.data_ptr()] = max(stored.get(x.data_ptr(), 0), x.numel())
        return x

    with LargestResult() as largest, saved_tensors_hooks(pack, lambda x: x):
        q, k, v = (kind(x, dx) for x, dx in zip(inputs[:3], inputs[3:], strict=True))
        y = F.scaled_dot_product_attention(q, k, v, seen)
        loss = y.primal.sum() + y.tangent.sum()
    with largest:
        loss.backward()
    assert largest.elements <= 1000
    of_torch = 4 * 768 + 4 * 96 + (0 if mask is None else 4 * 96)  # q, k, v, o, the sums of its rows, its mask
    assert sum(stored.values()) <= of_torch + (6 * 768 if kind is Dual else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "most", "options"),
    [
        (derivative.jvp, 2**26, {}),
        (derivative.detached, 2**26, {"is_causal": True}),
        (derivative.jvp, 50, {"attn_mask": seen(2, 1, 5, 5)}),
    ],
)
def test_compiled_without_a_graph_break(mode, most, options, monkeypatch):
    def loss(q, k, v):
        f = functools.partial(F.scaled_dot_product_attention, **options)
        o, d = mode(f, (q, k, v), (q.cos(), 1, v.sin()))
        return (o * d).sum()

    monkeypatch.setattr(blocks, "MOST_SCORES_PER_BLOCK", most)
    inputs = [draw(2, 3, 5, 4, seed=i).requires_grad_() for i in range(3)]
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    ours, plain = compiled(*inputs), loss(*inputs)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs), torch.autograd.grad(plain, inputs))


def test_half_precision_under_autocast():
    """bfloat16 has 8 digits of 2: with scores of one unit, an error of 2^-8 in each of the products."""
    inputs = [draw(2, 3, 64, 16, seed=i).float().requires_grad_() for i in range(6)]

    def run(inputs):
        return by_duals(F.scaled_dot_product_attention, inputs[:3], inputs[3:])

    exact = run([x.double() for x in inputs])
    expected = gradients(exact, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gradients(run(inputs), inputs)
        value, d = run(inputs)
    assert value.dtype == d.dtype == torch.bfloat16
    ours = (value, d, *gradients((value, d), inputs), *inside)
    for a, b in zip(ours, (*exact, *expected, *expected), strict=True):
        assert (a - b).norm() < 2**-6 * b.norm()


# --- the package on CUDA ----------------------------------------------------------------------------------------------


class InTorch:
    """The entry of jvp_flash_attention with its signature and its demands, by torch's own forward mode."""

    @staticmethod
    def fwd_dual(
        q, k, v, attn_mask=None, dropout_p=0.0, causal=False, sm_scale=None, warp_specialize=True, USE_TMA=True,
        verify_attn_mask=True,
    ):  # fmt: skip
        primals, tangents = zip(*(forward_ad.unpack_dual(x) for x in (q, k, v)), strict=True)
        assert all(x is not None and x.ndim == 4 and x.is_contiguous() for x in (*primals, *tangents))
        assert len({x.shape for x in (*primals, *tangents)}) == 1 and attn_mask is None and dropout_p == 0.0
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=sm_scale)


def installed():
    """The package, on each device where it runs: CUDA, or the processor with TRITON_INTERPRET=1."""
    if importlib.util.find_spec("jvp_flash_attention") is None:
        return []
    from jvp_flash_attention.jvp_attention import JVPAttn

    devices = ["cuda"] * torch.cuda.is_available() + ["cpu"] * (os.environ.get("TRITON_INTERPRET") == "1")
    return [(JVPAttn, device) for device in devices]


KERNELS = [(InTorch, "cpu"), *installed()]


@pytest.mark.parametrize("moving", MOVING)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kernel", "device"), KERNELS)
def test_the_fused_kernel_equals_the_blocks(kernel, device, causal, moving):
    values = tuple(draw(3, 64, 32, seed=i).half().to(device) for i in range(3))
    tangents = tuple(draw(3, 64, 32, seed=5 + i).half().to(device) if i in moving else None for i in range(3))
    exact = AttentionTangent.apply(
        Scores(0.2, causal), *(None if x is None else x.double() for x in (*values, *tangents))
    )
    fused = flash.tangent(kernel, 0.2, causal, values, tangents)
    assert fused.dtype == torch.float16 and fused.shape == exact.shape
    torch.testing.assert_close(fused.double(), exact, rtol=4e-3, atol=8e-3)


@pytest.fixture
def on_this_processor(monkeypatch):
    """As if the processor were CUDA and the package installed; returns the calls of its kernel."""
    calls = []

    class Counted(InTorch):
        @staticmethod
        def fwd_dual(*args, **kwargs):
            calls.append(args[0].shape)
            return InTorch.fwd_dual(*args, **kwargs)

    module = types.ModuleType("jvp_flash_attention.jvp_attention")
    module.JVPAttn = Counted
    monkeypatch.setitem(sys.modules, "jvp_flash_attention", types.ModuleType("jvp_flash_attention"))
    monkeypatch.setitem(sys.modules, "jvp_flash_attention.jvp_attention", module)
    monkeypatch.setattr(flash, "DEVICE", "cpu")
    flash.kernel.cache_clear()
    yield calls
    flash.kernel.cache_clear()


def half(*shape, seed=0):
    return draw(*shape, seed=seed).to(torch.bfloat16)


def test_the_kernel_is_chosen_where_it_fits(on_this_processor):
    x, dx = half(2, 3, 64, 32), half(2, 3, 64, 32, seed=1)

    def attend(x, dx, kind=Detached, **options):
        before = len(on_this_processor)
        y = F.scaled_dot_product_attention(kind(x, dx), kind(x, dx), kind(x, dx), **options)
        exact = F.scaled_dot_product_attention(*[kind(x.double(), dx.double())] * 3, **options)
        torch.testing.assert_close(y.tangent.double(), exact.tangent.double(), rtol=0.02, atol=0.05)
        return len(on_this_processor) - before

    assert attend(x, dx) == 2  # the first time with a trial
    assert attend(x, dx, is_causal=True, scale=0.3) == attend(x, dx, Dual) == 1
    assert on_this_processor[-1] == (1, 6, 64, 32)
    for changed in ({"attn_mask": torch.ones(64, 64, dtype=torch.bool)}, {"dropout_p": 1e-9}):
        assert attend(x, dx, **changed) == 0
    assert (
        attend(x.float(), dx.float())
        == attend(x[..., :16], dx[..., :16])
        == attend(x[..., :40, :], dx[..., :40, :])
        == 0
    )
    assert attend(x.requires_grad_(), dx) == 1
    assert attend(x, dx, Dual) == 0  # a tangent with a graph


def test_a_kernel_that_fails_or_is_absent_is_named_once(on_this_processor, monkeypatch):
    def broken(*args, **kwargs):
        raise NotImplementedError("no block pointers")

    def attend():
        x = half(2, 64, 32)
        return F.scaled_dot_product_attention(*[Detached(x, x)] * 3).tangent

    def wrong(*args, **kwargs):
        return 1.1 * InTorch.fwd_dual(*args, **kwargs)

    expected = attend()
    for change, message in (
        (
            lambda: monkeypatch.setattr(sys.modules["jvp_flash_attention.jvp_attention"].JVPAttn, "fwd_dual", wrong),
            "off by a share of 0.1 here, in torch.bfloat16",
        ),
        (
            lambda: monkeypatch.setattr(sys.modules["jvp_flash_attention.jvp_attention"].JVPAttn, "fwd_dual", broken),
            "no block",
        ),
        (lambda: monkeypatch.setitem(sys.modules, "jvp_flash_attention.jvp_attention", None), r"\[flash\]"),
    ):
        change()
        flash.kernel.cache_clear()
        with pytest.warns(UserWarning, match=message):
            torch.testing.assert_close(attend(), expected, rtol=0.02, atol=0.05)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            attend()
