"""Losses on several processes: a gradient that would stay in its process is refused.

`DistributedDataParallel` averages gradients only after its own forward has announced a backward pass, and `fully_shard`
gathers weights only in hooks of a module's forward. A loss that calls `ddp.module.velocity`, puts other weights in a
module's place or gives it dual numbers passes these by, without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

INSTEAD = (
    "Wrap what computes the loss, DistributedDataParallel(training.LossModule(flow, method)), or use training.train"
)


def refuse_wrapped(flow: Any) -> None:
    """Raise TypeError for a wrapped flow map, RuntimeError for one with weights that are spread over processes."""
    if isinstance(flow, DistributedDataParallel):
        raise TypeError(f"a loss needs the FlowMap itself, and got it in a DistributedDataParallel. {INSTEAD}")
    if several() and any(map(is_spread, flow.parameters())):
        raise RuntimeError(
            "the weights of this flow map are spread over processes (fully_shard), and a loss calls its network in "
            "ways that the hooks of a sharded module do not see: use training.train(..., shard=True)"
        )


def refuse_lost(flow: nn.Module, method: nn.Module) -> None:
    """Raise RuntimeError where weights of a flow map or a method would get the gradient of this process alone."""
    if not (several() and torch.is_grad_enabled()):
        return
    inside = [part for part in flow.modules() if isinstance(part, DistributedDataParallel)]
    active = DistributedDataParallel._get_active_ddp_module()
    heard = set(chain.from_iterable(part.parameters() for part in (*inside, *([active] if active else []))))
    lost = [name for name, weight in named(flow, method) if weight.requires_grad and weight not in heard]
    if lost:
        raise RuntimeError(
            f"the gradient of {lost[0]}{f' and {len(lost) - 1} more' if len(lost) > 1 else ''} would be that of this "
            f"process alone: no data-parallel module hears of this loss. {INSTEAD}. To average gradients yourself, say "
            "which rows are here: rows=Rows(first, every, total)"
        )


def named(flow: nn.Module, method: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return chain(flow.named_parameters("flow"), method.named_parameters("method"))


def several() -> bool:
    """Whether this process trains with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_spread(weight: nn.Parameter) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(weight, DTensor)
