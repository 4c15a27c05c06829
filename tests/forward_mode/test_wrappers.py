"""Dual numbers through what torch wraps around modules: hooks, checkpoints, DDP and FSDP2."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from flowmaps import derivative
from flowmaps.forward_mode.dual import Detached, Dual
from flowmaps.forward_mode.tensor import DetachedTensor, DualTensor

F64 = torch.float64
KINDS = Dual, Detached, DualTensor, DetachedTensor
MODES = derivative.jvp, derivative.detached, derivative.separate


class Block(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 16), nn.GELU())
        self.attention, self.outer = nn.MultiheadAttention(width, 2, batch_first=True), nn.Linear(16, width)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.outer(self.inner(x))


class Net(nn.Module):
    """Blocks that are called as `through(block, x)`."""

    def __init__(self, through=lambda block, x: block(x)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.through = through
        self.double()

    def forward(self, x, t):
        x = self.first(x) * (1 + t)
        for block in self.blocks:
            x = self.through(block, x)
        return self.last(x)


def step(mode, net, called=None):
    """The value, the derivative and the gradients of all parameters by names."""
    generator = torch.Generator().manual_seed(1)
    x, dx = torch.randn(2, 3, 5, 4, dtype=F64, generator=generator)
    t = torch.rand(3, 1, 1, dtype=F64, generator=generator)
    value, d = mode(called or net, (x, t), (dx, 1))
    net.zero_grad()
    (value.square() + value * d).sum().backward()
    return value, d, {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dual_number_is_a_pair_to_pytrees(kind):
    x, dx = torch.randn(2, 3)
    d = kind(x, dx)
    leaves, spec = pytree.tree_flatten({"a": [d], "b": 1})
    assert leaves[0] is x and leaves[1] is dx and leaves[2] == 1
    again = pytree.tree_unflatten(leaves, spec)["a"][0]
    assert type(again) is kind and again.primal is x and again.tangent is dx
    doubled = pytree.tree_map_only(torch.Tensor, lambda y: 2 * y, d, is_leaf=lambda y: False)
    torch.testing.assert_close((doubled.primal, doubled.tangent), (2 * x, 2 * dx))
    shapes = pytree.tree_map(lambda y: y.shape, d)
    assert (shapes.primal, shapes.tangent) == (x.shape, x.shape)


def test_a_hook_that_maps_the_tensors_of_a_module_meets_both():
    net, met = Net(), []

    def hook(module, args, output):
        met.extend(pytree.tree_leaves((args, output)))
        return pytree.tree_map_only(torch.Tensor, lambda y: y.view_as(y), output)

    expected = step(derivative.jvp, net)
    net.blocks[1].register_forward_hook(hook)
    torch.testing.assert_close(step(derivative.jvp, net), expected)
    assert len(met) == 4 and not any(isinstance(x, Dual) for x in met)


@pytest.mark.filterwarnings("ignore:no forward-mode rule")
def test_pytrees_hold_in_a_compiled_graph():
    def run(x, dx):
        pair = pytree.tree_map(torch.sin, Dual(x, dx))
        return pair.primal, derivative.jvp(lambda x: torch.renorm(x, 2, 0, 1.0), (x,), (dx,))

    x, dx = torch.randn(2, 3, 4, dtype=F64)
    torch._dynamo.reset()
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, dx), run(x, dx))


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_checkpointed_blocks_have_the_same_gradients(mode):
    expected = step(mode, Net())
    torch.testing.assert_close(step(mode, Net(lambda block, x: checkpoint(block, x, use_reentrant=False))), expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_dropout_of_a_checkpointed_block_is_drawn_once(reentrant):
    def net():
        return Net(
            lambda block, x: checkpoint(lambda y: nn.functional.dropout(block(y), 0.3), x, use_reentrant=reentrant)
        )

    mode = derivative.separate if reentrant else derivative.jvp
    results = []
    for made in (net(), Net(lambda block, x: nn.functional.dropout(block(x), 0.3))):
        torch.manual_seed(3)
        results.append(step(mode, made))
    torch.testing.assert_close(*results)


def test_reentrant_checkpoints_are_for_plain_passes():
    net = Net(lambda block, x: checkpoint(block, x, use_reentrant=True))
    for mode in (derivative.separate, derivative.finite_difference()):
        torch.testing.assert_close(step(mode, net), step(mode, Net()))
    for mode in (derivative.jvp, derivative.detached):
        with pytest.raises(TypeError, match="autograd function CheckpointFunctionBackward: .*use_reentrant=False"):
            step(mode, net)


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


@pytest.mark.parametrize("after", [lambda y: y, lambda y: y + 1, lambda y: torch.cat([y, y])])
def test_functions_of_autograd_are_refused_where_their_gradient_would_be_lost(after):
    x = torch.randn(3, requires_grad=True)
    with pytest.raises(TypeError, match="autograd function DoubleBackward"):
        derivative.jvp(lambda x: after(Double.apply(x)), (x,), (torch.ones(3),))
    with torch.no_grad():
        _, d = derivative.jvp(lambda x: after(Double.apply(x)), (x,), (torch.ones(3),))
    assert torch.equal(d, torch.full_like(d, 2.0))


# --- data parallelism -------------------------------------------------------------------------------------------------


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def whole(gradients):
    return {name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in gradients.items()}


@pytest.mark.parametrize("mode", MODES)
def test_a_derivative_through_sharded_modules(mode, one_process):
    net = Net()
    for block in net.blocks:
        fully_shard(block, reshard_after_forward=True)
    fully_shard(net, reshard_after_forward=True)
    value, d, gradients = step(mode, net)
    torch.testing.assert_close((value, d, whole(gradients)), step(mode, Net()))


@pytest.mark.parametrize("mode", MODES)
def test_a_derivative_through_data_parallelism(mode, one_process):
    net = Net()
    torch.testing.assert_close(step(mode, net, DistributedDataParallel(net)), step(mode, Net()))
