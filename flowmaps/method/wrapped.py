"""Losses on several processes: refuse a loss whose gradient would not be averaged over the processes.

`DistributedDataParallel` averages gradients only if its own forward has been called, and `fully_shard` gathers weights
only in the hooks of a module's forward. Both are bypassed, without an error, by a loss that calls
`ddp.module.velocity`, replaces the weights of a module or passes dual numbers through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

INSTEAD = "Wrap the whole loss, DistributedDataParallel(training.LossModule(flow, method)), or use training.train"


def refuse_wrapped(flow: Any) -> None:
    """Refuse a flow map that is wrapped for data parallelism or has sharded weights.

    Raises:
        TypeError: The flow map is inside a `DistributedDataParallel`.
        RuntimeError: Its weights are sharded over processes.
    """
    if isinstance(flow, DistributedDataParallel):
        raise TypeError(f"a loss needs the FlowMap itself, but got it in a DistributedDataParallel. {INSTEAD}")
    if is_distributed() and any(map(is_sharded, flow.parameters())):
        raise RuntimeError(
            "the weights of this flow map are sharded over processes (fully_shard), but a loss calls the network in "
            "ways that bypass the hooks of a sharded module: use training.train(..., shard=True)"
        )


def refuse_unreduced(flow: nn.Module, method: nn.Module) -> None:
    """Refuse a loss on one of several processes if some gradients would not be averaged over them.

    Raises:
        RuntimeError: A trained weight of the flow map or the method is in no active data-parallel module.
    """
    if not (is_distributed() and torch.is_grad_enabled()):
        return
    wrappers = [part for part in flow.modules() if isinstance(part, DistributedDataParallel)]
    active = DistributedDataParallel._get_active_ddp_module()
    reduced = set(chain.from_iterable(part.parameters() for part in (*wrappers, *([active] if active else []))))
    local = [name for name, weight in named_weights(flow, method) if weight.requires_grad and weight not in reduced]
    if local:
        raise RuntimeError(
            f"the gradient of {local[0]}{f' and {len(local) - 1} more' if len(local) > 1 else ''} would not be "
            "averaged over the processes: the loss is computed outside a data-parallel module. "
            f"{INSTEAD}. If you average gradients yourself, pass rows=Rows(first, every, total)"
        )


def named_weights(flow: nn.Module, method: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    """The weights of a flow map and of a method, by name."""
    return chain(flow.named_parameters("flow"), method.named_parameters("method"))


def is_distributed() -> bool:
    """Whether this process trains with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_sharded(weight: nn.Parameter) -> bool:
    """Whether a weight is sharded over processes."""
    from torch.distributed.tensor import DTensor

    return isinstance(weight, DTensor)
