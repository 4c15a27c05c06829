"""The loss as a module, for data-parallel wrappers, sharding and compiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from ..flow_map import FlowMap, expect_flow
from ..method.method import Loss, Method, measure
from ..methods.landscape import method_of
from ..velocity import Companion, Pair
from .config import Precision
from .teachers import teachers


class LossModule(nn.Module):
    """The whole loss as the forward of a module, for data-parallel wrappers and for compiling.

    A wrapper around the flow map or its network would be bypassed by other calls of the loss, such as `velocity`.

    Args:
        flow: The flow map in training.
        method: The method, or its name.
        precision: "bf16" for autocast to bfloat16.

    Raises:
        TypeError: The flow map or the method is something else.
    """

    def __init__(self, flow: FlowMap, method: Method | str, precision: Precision = "no") -> None:
        super().__init__()
        expect_flow(flow)
        self.flow, self.method, self.precision = flow, method_of(method), precision
        self.measure: Callable[..., Loss] = measure

    def forward(self, pairs: Sequence[Pair], progress: float = 0.0) -> Loss:
        """Compute the loss on drawn pairs, `Method.measure`.

        Args:
            pairs: The result of `Method.draw`.
            progress: Share of training that is done, in [0, 1].

        Returns:
            The loss. Only its value has a graph, for backward(); its terms are detached.
        """
        device = pairs[0].x0.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return detached(self.measure(self.flow, self.method.now(progress), pairs))


def detached(loss: Loss) -> Loss:
    """Detach the terms of a loss, so that keeping them does not keep the graph."""
    terms = {
        name: replace(t, value=t.value.detach(), residual=t.residual.detach(), s=t.s.detach(), t=t.t.detach())
        for name, t in loss.terms.items()
    }
    return Loss(loss.value, terms)


def sharded(module: LossModule, device: torch.device) -> nn.Module:
    """Shard all weights that a loss uses over the processes."""
    from torch.distributed.device_mesh import init_device_mesh

    from ..distributed.sharding import Sharded

    method = module.method
    companions = [part.network for part in method.modules() if isinstance(part, Companion) and part.network is not None]
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    return Sharded(module, [module.flow.network, *companions, *teachers(method)], mesh)
