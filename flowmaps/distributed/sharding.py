"""Sharded training: each process keeps a share of every weight, of its gradient and of its optimizer state.

torch's `fully_shard` does the gathering and sharding, but not by its forward hooks: a loss calls its networks with dual
numbers, with replaced weights and inside derivatives, for which these hooks are wrong. All weights are gathered once
before the loss, and sharded again after the backward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard


class ShardGroup(nn.Module):
    """Weights that are gathered and sharded together. It is never called, so its forward hooks never run."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class Sharded(nn.Module):
    """Wrapper of a module that returns a loss: its weights are sharded over the processes of a mesh.

    All processes start from the weights of the first one. Create optimizers after the wrapper.

    Args:
        module: The module.
        networks: Networks that are sharded block by block: parts of the module, and others that it uses (teachers).
        mesh: The processes.
    """

    def __init__(self, module: nn.Module, networks: Iterable[nn.Module], mesh: DeviceMesh) -> None:
        super().__init__()
        used = nn.ModuleList([*networks, module])
        for tensor in (*used.parameters(), *used.buffers()):
            dist.broadcast(tensor.data, 0)
        self.module = module
        self.groups = nn.ModuleList()
        for holder, weights in shard_groups(used):
            group = ShardGroup(holder)
            fully_shard(group, mesh=mesh, ignored_params=set(used.parameters()) - weights)
            self.groups.append(group)
        fully_shard(self, mesh=mesh, ignored_params=set(self.parameters()))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Gather all weights and call the module; the backward pass shards weights and gradients again."""
        for group in self.groups:
            assert isinstance(group, FSDPModule)
            group.unshard()  # one after another, so that only one communication buffer exists at a time
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients without communication, and keep the weights gathered (context manager)."""
        self._last(False)
        try:
            yield
        finally:
            self._last(True)

    def _last(self, last: bool) -> None:
        """Set whether the next backward pass is the last one of a step."""
        assert isinstance(self, FSDPModule)
        self.set_requires_gradient_sync(last)
        self.set_reshard_after_backward(last)
        self.set_is_last_backward(last)


def shard_groups(used: nn.ModuleList) -> list[tuple[nn.Module, set[nn.Parameter]]]:
    """Divide weights into groups that are gathered together: each block of a network, and the rest of each network.

    Weights shared by several modules are gathered once, such as frozen ones that an average or a teacher shares.

    Args:
        used: The networks, followed by the module that uses them.

    Returns:
        For each group a module that holds its weights, and the weights.
    """
    total, grouped, found = use_counts(used), set[nn.Parameter](), []
    for unit in (*(block for network in list(used)[:-1] for block in blocks(network)), *used):
        counts = use_counts(unit)
        weights = counts.keys() - grouped
        if weights:
            shared = {weight for weight in weights if counts[weight] < total[weight]}
            found.append((nn.ModuleList([unit, *owners(used, shared)]) if shared else unit, weights))
            grouped |= weights
    return found


def owners(module: nn.Module, weights: set[nn.Parameter]) -> list[nn.Module]:
    """Find the submodules that directly hold one of these weights."""
    return [part for part in module.modules() if any(weight in weights for weight in part.parameters(recurse=False))]


def use_counts(module: nn.Module) -> Counter[nn.Parameter]:
    """Count how many submodules hold each weight."""
    parts = (part.named_parameters(recurse=False, remove_duplicate=False) for part in module.modules())
    return Counter(weight for named in parts for _, weight in named)


def blocks(module: nn.Module, inside: bool = False) -> Iterator[nn.Module]:
    """Find the blocks of a network: the modules in its outermost `nn.ModuleList`s."""
    for child in module.children():
        if inside and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from blocks(child, isinstance(child, nn.ModuleList))
