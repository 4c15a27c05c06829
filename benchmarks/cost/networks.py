"""The networks that are measured, each with the shape and the number of the rows it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import flowmaps as fm

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Setting:
    """What all steps on a network share: the network, a teacher of the same kind, and a batch."""

    network: nn.Module
    teacher: nn.Module
    x0: torch.Tensor

    @property
    def times(self) -> torch.Tensor:
        """A time for each row."""
        return torch.rand(len(self.x0), device=self.x0.device)


@dataclass(frozen=True)
class Case:
    """A network and its batch: `make()` builds it, rows have `shape`; `rows` of them on a CPU, 16 times as many on a
    GPU."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rows: int

    def setting(self) -> Setting:
        """With weights and data drawn anew. No weight is zero: outputs and gates that start there would say little."""
        network, teacher = (filled(self.make()).to(DEVICE) for _ in range(2))
        rows = self.rows * (16 if DEVICE.type == "cuda" else 1)
        return Setting(network, teacher, torch.randn(rows, *self.shape, device=DEVICE))


CASES = {
    "mlp": Case(lambda: fm.networks.MLP(64, width=256, depth=4), (64,), 512),
    "dit": Case(lambda: fm.networks.DiT((3, 16, 16), 2, width=384, depth=3, heads=6), (3, 16, 16), 16),
    "unet": Case(lambda: fm.networks.UNet((3, 16, 16), 48, (1, 2), 1, attention=(8,)), (3, 16, 16), 32),
}
NAMES = {"mlp": "MLP", "dit": "DiT", "unet": "U-Net"}


@torch.no_grad()
def filled(network: nn.Module) -> nn.Module:
    """The same network with small normal numbers in place of weights that are all zero."""
    for weight in network.parameters():
        if not weight.any():
            weight.normal_(std=0.02)
    return network
