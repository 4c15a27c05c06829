"""The measured networks, with the shape and number of their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import flowmaps as fm

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Setting:
    """The shared input of all steps on a network: the network, a teacher of the same kind, and a batch.

    With `half`, losses and forward passes run in bfloat16 by autocast.
    """

    network: nn.Module
    teacher: nn.Module
    x0: torch.Tensor
    half: bool = False

    def autocast(self) -> torch.autocast:
        """Context of a forward pass or a loss; the backward pass is outside of it."""
        return torch.autocast(self.x0.device.type, torch.bfloat16, enabled=self.half)

    @property
    def times(self) -> torch.Tensor:
        """A time for each row."""
        return torch.rand(len(self.x0), device=self.x0.device)


@dataclass(frozen=True)
class Case:
    """A network and its batch: `make()` builds the network, `shape` is the shape of a row.

    There are `rows` rows on a CPU and 16 times as many on a GPU.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rows: int

    def setting(self) -> Setting:
        """Draw weights and data. No weight is zero: outputs and gates at zero would not be representative."""
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
    """Replace weights that are all zero by small normal numbers."""
    for weight in network.parameters():
        if not weight.any():
            weight.normal_(std=0.02)
    return network
