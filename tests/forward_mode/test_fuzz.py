"""Every rule of forward mode against torch.func over random shapes, broadcasts and choices of what moves."""

import warnings
import zlib

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from flowmaps.forward_mode import dual
from flowmaps.forward_mode.dual import Detached, Dual
from flowmaps.forward_mode.tensor import DetachedTensor, DualTensor
from tests.forward_mode.cases import CASES, F64, Draw
from tests.forward_mode.layer_cases import LAYER_CASES
from tests.forward_mode.shape_cases import SHAPE_CASES
from tests.forward_mode.transform_cases import TRANSFORM_CASES

EVERY = CASES | SHAPE_CASES | LAYER_CASES | TRANSFORM_CASES
SEEDS = range(2)
KINDS = Dual, DetachedTensor, Detached, DualTensor
NOT_REACHED = {"cuda"}  # needs the device
NORMS = {"layer_norm", "group_norm", "instance_norm", "batch_norm"}
BY_DIFFERENCES = NORMS | {"gates_of_rows", "solutions", "running_with_zeros"}
"""Where the second derivative of torch.func is wrong (of norms, linear solutions and products of zeros) or missing."""


@pytest.fixture(autouse=True)
def _no_silent_fallback():
    dual._warn_once.cache_clear()
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("error", message="no forward-mode rule")
        yield


def outputs(y):
    """What a program returns, as a tuple of floating-point results."""
    leaves = pytree.tree_leaves(y, is_leaf=lambda leaf: isinstance(leaf, Dual))
    return tuple(z for z in leaves if isinstance(z, (Dual, torch.Tensor)) and (z.is_floating_point() or z.is_complex()))


def drawn(name, seed):
    """A program (and the same for torch, where that needs another), its inputs, which of them move, and where to.

    Random programs draw the same numbers every time.
    """
    r = Draw(zlib.crc32(name.encode()) + seed)
    f, inputs, *reference = EVERY[name](r)
    moving = [i for i in range(len(inputs)) if seed == 0 or r.number(0, 1)] or [r.number(0, len(inputs) - 1)]

    def seeded(f):
        def program(*xs):
            torch.manual_seed(seed)
            return outputs(f(*xs))

        return program

    program, reference = seeded(f), seeded(*(reference or [f]))
    return (program, reference), inputs, moving, [r(*inputs[i].shape) for i in moving], r


def by_duals(program, inputs, moving, directions, kind=DualTensor):
    at = dict(zip(moving, directions, strict=True))
    ys = program(*(kind(x, at[i]) if i in at else x for i, x in enumerate(inputs)))
    value = tuple(map(dual.primal, ys))
    return value, tuple(torch.zeros_like(dual.primal(y)) if dual.tangent(y) is None else y.tangent for y in ys)


def by_torch(program, inputs, moving, directions):
    def along(*values):
        moved = dict(zip(moving, values, strict=True))
        return program(*(moved.get(i, x) for i, x in enumerate(inputs)))

    return torch.func.jvp(along, tuple(inputs[i] for i in moving), tuple(directions))


def paired(tangents, weights):
    return sum((c * t).real.sum() if t.is_complex() else (c * t).sum() for c, t in zip(weights, tangents, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", EVERY)
def test_value_and_tangent_and_the_gradient_through_it(name, seed):
    (program, reference), inputs, moving, directions, r = drawn(name, seed)
    expected = by_torch(reference, inputs, moving, directions)
    for kind in KINDS[seed::2]:
        ours = by_duals(program, inputs, moving, directions, kind)
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-11)
    weights = [torch.randn_like(t) for t in expected[1]]

    def pairing(engine, program, *tensors):
        xs, dxs = tensors[: len(inputs)], tensors[len(inputs) :]
        return paired(engine(program, xs, moving, dxs)[1], weights)

    tensors = [x.clone().requires_grad_() for x in (*inputs, *directions)]
    through = pairing(by_duals, program, *tensors)
    ours = [torch.zeros_like(x) for x in tensors]
    if through.requires_grad:
        ours = torch.autograd.grad(through, tensors, allow_unused=True, materialize_grads=True)
    if name in BY_DIFFERENCES:
        steps = [r(*x.shape) for x in tensors]
        h = 1e-5
        ends = [
            pairing(by_duals, program, *(x.detach() + e * d for x, d in zip(tensors, steps, strict=True)))
            for e in (h, -h)
        ]
        slope = sum((g * d).sum() for g, d in zip(ours, steps, strict=True))
        torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-6)
    else:
        points = tuple(x.detach() for x in tensors)
        theirs = torch.func.grad(lambda *t: pairing(by_torch, reference, *t), argnums=tuple(range(len(points))))(
            *points
        )
        torch.testing.assert_close(tuple(ours), theirs, rtol=1e-8, atol=1e-9)


def test_every_rule_is_fuzzed(monkeypatch):
    met = set()

    class Recording(dict):
        def get(self, name, default=None):
            met.add(name)
            return super().get(name, default)

    monkeypatch.setattr(dual, "RULES", Recording(dual.RULES))
    for name in EVERY:
        (program, _), inputs, moving, directions, _ = drawn(name, 0)
        for kind in (Dual, DualTensor):
            by_duals(program, inputs, moving, directions, kind)
    assert set(dual.RULES) - met == NOT_REACHED


@pytest.mark.parametrize("kind", KINDS)
def test_tangents_have_the_dtype_of_their_values(kind):
    for name in EVERY:
        (program, _), inputs, moving, directions, _ = drawn(name, 0)
        floats = [[x.float() for x in xs] for xs in (inputs, directions)]
        values, tangents = by_duals(program, floats[0], moving, floats[1], kind)
        assert [v.dtype for v in values] == [t.dtype for t in tangents], name
        assert [v.shape for v in values] == [t.shape for t in tangents], name
        assert all(x.dtype == F64 for x in inputs)
