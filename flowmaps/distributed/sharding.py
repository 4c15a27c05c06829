"""Sharded weights: each process keeps a share of every weight, of its gradient and of its optimizer state.

`fully_shard` of torch gathers and shards, but not in the hooks of a module's call: a loss calls its networks in ways
that no such hook sees right (with dual numbers, with other weights in their place, with a derivative taken in the
middle). All weights are gathered before the loss, once for all its passes, and sharded again after the backward pass.
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


class Shelf(nn.Module):
    """Weights that are gathered and sharded together. It is never called, so that no hook of its module runs."""

    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self.held = held


class Sharded(nn.Module):
    """A module that returns a loss, with its weights sharded over the processes of a mesh.

    All processes start from the weights of the first one. Optimizers are made afterwards.

    Args:
        module: The module.
        networks: Its parts, and other modules that it uses (teachers), which are sharded block by block.
        mesh: The processes.
    """

    def __init__(self, module: nn.Module, networks: Iterable[nn.Module], mesh: DeviceMesh) -> None:
        super().__init__()
        used = nn.ModuleList([*networks, module])
        for tensor in (*used.parameters(), *used.buffers()):
            dist.broadcast(tensor.data, 0)
        self.module = module
        self.shelves = nn.ModuleList()
        for unit, weights in units(used):
            shelf = Shelf(unit)
            fully_shard(shelf, mesh=mesh, ignored_params=set(used.parameters()) - weights)
            self.shelves.append(shelf)
        fully_shard(self, mesh=mesh, ignored_params=set(self.parameters()))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Gather all weights, then call the module; the backward pass shards weights and gradients again."""
        for shelf in self.shelves:
            assert isinstance(shelf, FSDPModule)
            shelf.unshard()  # one after another, or the buffers of all would be there at once
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, gradients are added up where they are, and weights stay gathered."""
        self._last(False)
        try:
            yield
        finally:
            self._last(True)

    def _last(self, last: bool) -> None:
        """Whether the next backward pass is the last one of a step."""
        assert isinstance(self, FSDPModule)
        self.set_requires_gradient_sync(last)
        self.set_reshard_after_backward(last)
        self.set_is_last_backward(last)


def units(used: nn.ModuleList) -> list[tuple[nn.Module, set[nn.Parameter]]]:
    """Divide weights into groups that are gathered together: each block of a network, and the rest of each network.

    Weights shared by several modules (frozen ones, by an average or a teacher) are gathered once.

    Args:
        used: The networks, and last the module that uses them.

    Returns:
        For each group the module that holds it, and its weights.
    """
    everywhere, taken, found = places(used), set[nn.Parameter](), []
    for unit in (*(block for network in list(used)[:-1] for block in blocks(network)), *used):
        here = places(unit)
        mine = here.keys() - taken
        if mine:
            elsewhere = {weight for weight in mine if here[weight] < everywhere[weight]}
            found.append((nn.ModuleList([unit, *holders(used, elsewhere)]) if elsewhere else unit, mine))
            taken |= mine
    return found


def holders(module: nn.Module, weights: set[nn.Parameter]) -> list[nn.Module]:
    """The parts of a module that hold one of these weights themselves."""
    return [part for part in module.modules() if any(weight in weights for weight in part.parameters(recurse=False))]


def places(module: nn.Module) -> Counter[nn.Parameter]:
    """Count the places of each weight in a module."""
    parts = (part.named_parameters(recurse=False, remove_duplicate=False) for part in module.modules())
    return Counter(weight for named in parts for _, weight in named)


def blocks(module: nn.Module, inside: bool = False) -> Iterator[nn.Module]:
    """The modules in the outermost lists (`nn.ModuleList`) of a network."""
    for child in module.children():
        if inside and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from blocks(child, isinstance(child, nn.ModuleList))
