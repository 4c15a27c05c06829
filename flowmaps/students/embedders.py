"""The time embeddings of a network, as functions of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..networks import ConcatMLP
from ..networks.embeddings import time_features


class Embedder:
    """One time embedding of a network: modules called one after the other.

    Args:
        modules: The modules; the last one is `end`.
        scale: Factor of the times.
    """

    def __init__(self, modules: Sequence[nn.Module], scale: float) -> None:
        self.modules, self.scale = list(modules), scale
        self.as_column = False

    @property
    def end(self) -> nn.Module:
        """The module whose output is the embedding."""
        return self.modules[-1]

    def __call__(self, time: Tensor) -> Tensor:
        """Evaluate the embedding at times (B,) on the network's clock: (B, width)."""
        h = time if self.scale == 1.0 else time * self.scale
        h = h[:, None] if self.as_column else h
        for module in self.modules:
            h = module(h.to(dtype_of(module, h)))
        return h

    @torch.no_grad()
    def width(self, time: Tensor) -> int:
        """Find the width of the embedding by a trial at times (n,).

        Raises:
            ValueError: If it cannot be called with times.
        """
        reasons = []
        for self.as_column in (False, True):
            try:
                value = self(time)
            except Exception as error:
                reasons.append(str(error).partition("\n")[0])
                continue
            if isinstance(value, Tensor) and value.ndim == 2 and len(value) == len(time):
                return value.shape[-1]
            reasons.append(f"it returned {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}")
        raise ValueError(
            f"the time embedding {type(self.end).__name__} cannot be called on times (B,) to give (B, width): "
            f"{'; '.join(dict.fromkeys(reasons))}. If other modules come before it, name them by "
            "TimeLayers(features=...)"
        )


class OurEmbedder(Embedder):
    """The `TimeEmbedding` of a network of flowmaps, on the diagonal s = t.

    Args:
        end: The `TimeEmbedding`.
        conditioning: The `Conditioning` around it.
    """

    def __init__(self, end: nn.Module, conditioning: Any) -> None:
        super().__init__([end], 1.0)
        self.conditioning = conditioning

    def __call__(self, time: Tensor) -> Tensor:
        """Evaluate the embedding at s = t = time (B,): (B, width)."""
        return self.end(self.conditioning.times(time, time, self.conditioning.depth)[0][0])


class FirstLayer(Embedder):
    """The contribution of the times to the first layer of a `ConcatMLP`."""

    def __init__(self, network: ConcatMLP) -> None:
        super().__init__([network.input], 1.0)
        self.network = network

    def __call__(self, time: Tensor) -> Tensor:
        """Evaluate the first layer at x = 0 and s = t = time (B,): (B, width)."""
        [(seen, _)] = self.network.times(time, time, 1)
        weight = self.network.input.weight
        x = torch.zeros(len(time), self.network.input.sizes[-1], dtype=weight.dtype, device=weight.device)
        return self.network.input(*(time_features(self.network.features, time) for time in seen), x)


def common_width(embedders: Sequence[Embedder], time: Tensor) -> int:
    """Find the width of all embeddings of a network by a trial.

    Args:
        embedders: The embeddings.
        time: Times (n,) on the network's clock.

    Returns:
        The width.

    Raises:
        ValueError: If they differ.
    """
    widths = sorted({embedder.width(time) for embedder in embedders})
    if len(widths) > 1:
        raise ValueError(f"the time embeddings of a network must have one width, got {widths}")
    return widths[0]


def dtype_of(module: nn.Module, like: Tensor) -> torch.dtype:
    """Return the dtype of a module's weights; the dtype of `like` if it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), like.dtype)
