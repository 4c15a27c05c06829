"""One-step samplers as functions of tensors, which other runtimes can call: of whole rows, and frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..flow_map import FlowMap
from ..networks.with_backbone import Past
from ..sequences import Generated


class SamplerModule(nn.Module):
    """What the samplers share: the flow map, the scale of the noise, and the units of the data.

    Args:
        flow: The flow map.
        names: Names of the conditions, in the order of the arguments.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, flow: FlowMap, names: tuple[str, ...]) -> None:
        super().__init__()
        self.flow, self.names = flow, names
        self.scale = float(flow.path.sigma(torch.ones((), dtype=torch.float64)))
        mean, std = ((0.0,), (1.0,)) if flow.units is None else (flow.units.mean, flow.units.std)
        self.register_buffer("mean", flow.like.new_tensor(mean))
        self.register_buffer("std", flow.like.new_tensor(std))


class OneStep(SamplerModule):
    """The one-step sampler F(x, 1, 0) as a function of standard normal noise (B, *shape) and conditions (B, ...).

    Samples have the units of the data.
    """

    def forward(self, noise: Tensor, *conditions: Tensor) -> Tensor:
        """Sample from noise and conditions."""
        flow = self.flow.given(**dict(zip(self.names, conditions, strict=True)))
        x = flow(noise * self.scale, 1.0, 0.0)
        if flow.units is None:
            return x
        mean, std = (value.reshape(-1, *[1] * (noise.ndim - 2 - flow.units.axis)) for value in (self.mean, self.std))
        return mean + std * x


class NextFrame(SamplerModule):
    """The next frame by one jump from noise, F(noise, 1, 0 | context of the frames before it).

    The inputs are the sequences so far (B, T, C), in the units of the data; the number k of the next frame of each,
    whole numbers (B,); standard normal noise (B, C); and the conditions of the backbone. Frames k, ..., T - 1 are not
    read. The outputs are the next frames (B, C), and for a network that predicts ends whether they are the last ones,
    (B,).
    """

    def forward(
        self, past: Tensor, frame: Tensor, noise: Tensor, *conditions: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Make the next frames."""
        given = dict(zip(self.names, conditions, strict=True))
        one, rows = self.flow.given(), torch.arange(len(past), device=past.device)
        one.condition = {
            "past": Past((past - self.mean) / self.std, {**self.flow.condition, **given}),
            "frame": rows * past.shape[1] + frame,
        }
        one = one.prepared()
        made = self.mean + self.std * one(noise * self.scale, 1.0, 0.0)
        network: Any = self.flow.network
        return (made, network.ending(one.condition["context"]) > 0) if getattr(network, "ends", False) else made


def in_turn(call: Callable[..., Tensor | tuple[Tensor, Tensor]], noise: Tensor, *conditions: Tensor) -> Generated:
    """Make sequences by a function of the next frame, as `Autoregressive.generate` does.

    Args:
        call: The function (past, frame, noise, *conditions), such as a loaded program.
        noise: Standard normal noise (B, T, C).
        *conditions: The conditions of the backbone.

    Returns:
        The frames (B, T, C), and the length of each sequence.
    """
    rows, count = noise.shape[:2]
    past, length = torch.zeros_like(noise), torch.full((rows,), count)
    for k in range(count):
        made = call(past, torch.full((rows,), k), noise[:, k], *conditions)
        past[:, k], last = made if isinstance(made, tuple) else (made, torch.zeros(rows, dtype=torch.bool))
        length = torch.where(last & (length > k + 1), k + 1, length)
    return Generated(past, length)
