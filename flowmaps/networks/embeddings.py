"""Embeddings of the two times and the class, and which layer sees which time.

A *time conditioning* is a function (s, t, depth) -> list of (times, layers): the times that each of `depth` layers
sees, from the first layer to the last. `pair`, for example, shows every layer both times; `decoupled` shows s to the
early layers and t to the late ones. A time conditioning only does arithmetic, so it also works on plain numbers: at
construction a network evaluates it to count the times per layer.

Times are raw, in [0, 1] (t = 0 data, t = 1 noise). A factor on the times would multiply dV/ds and dV/dt too, so all
frequencies are O(1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_CLASSES, MOST_WIDTH, between, finite, shown
from .layers import SideBySide, full_precision

Times = tuple[Any, ...]
TimeConditioning = Callable[[Any, Any, int], list[tuple[Times, int]]]
TimeFeatures = Callable[[Tensor], Tensor]


def pair(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """Every layer sees (s, t)."""
    return [((s, t), depth)]


def gap(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """Every layer sees (s, s - t): the source and how far to go (Geng et al. 2025, arXiv 2505.13447, use this form)."""
    return [((s, s - t), depth)]


def gap_only(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """Every layer sees s - t alone; the network must infer s from x."""
    return [((s - t,), depth)]


def source_only(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """Every layer sees s alone: an ordinary velocity network, v(x, s)."""
    return [((s,), depth)]


def expanded(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """Every layer sees the one time c = 1 - s + 2 t: FACM's expanded time axis (Peng et al. 2025, arXiv 2507.03738).

    For maps to t = 0 that also know their velocity. A jump to the data sees c = 1 - s, in [0, 1]; the diagonal t = s
    sees c = 1 + s, in [1, 2]. The two meet at s = t = 0, where they are the same task. Outside of these two modes c
    does not determine (s, t).
    """
    return [((1 - s + 2 * t,), depth)]


def none(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """No layer sees any time; the network must infer both from x."""
    return [((), depth)]


@dataclass(frozen=True)
class Decoupled:
    """The first `share` of the layers sees s, the others see t, through one embedder.

    The decoupled MeanFlow of Lee et al. 2025, arXiv 2510.24474. At s = t this is the one-time network (`source_only`)
    with the same weights, so a trained velocity network becomes a flow map without new parameters. At least one layer
    is on either side.

    Attributes:
        share: fraction of the layers that see s.

    Raises:
        ValueError: for a share outside (0, 1), or when called with a depth below 2.
    """

    share: float = 2 / 3

    def __post_init__(self) -> None:
        finite(share=self.share)
        if not 0 < self.share < 1:
            raise ValueError(f"the share of layers that see s must lie between 0 and 1, got {self.share:g}")

    def __call__(self, s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
        """Show s to the early layers and t to the late ones."""
        if depth < 2:
            raise ValueError(f"decoupled times need at least 2 layers that see a time, this network has {depth}")
        early = min(max(round(self.share * depth), 1), depth - 1)
        return [((s,), early), ((t,), depth - early)]


decoupled = Decoupled()

TIME_CONDITIONINGS: Mapping[str, TimeConditioning] = {
    "pair": pair,
    "gap": gap,
    "gap_only": gap_only,
    "source_only": source_only,
    "decoupled": decoupled,
    "expanded": expanded,
    "none": none,
}


@dataclass(frozen=True)
class Fourier:
    """Features sin(w t) and cos(w t) for w spaced geometrically from `low` to `high`: (...) -> (..., 2 frequencies).

    The highest frequency has slope `high` in time, so `high` bounds the contribution of the embedding to a time
    derivative. The default resolves time differences of about 1/30; lower it towards 1 if training with time
    derivatives is unstable.

    Attributes:
        frequencies: number of frequencies.
        low: lowest angular frequency.
        high: highest angular frequency.

    Raises:
        ValueError: unless 0 < low <= high and there is at least one frequency.
    """

    frequencies: int = 16
    low: float = 1.0
    high: float = 30.0

    def __post_init__(self) -> None:
        between(1, MOST_WIDTH, frequencies=self.frequencies)
        finite(low=self.low, high=self.high)
        if not 0 < self.low <= self.high:
            raise ValueError(f"expected 0 < low <= high, got {self}")

    def __call__(self, time: Tensor) -> Tensor:
        """Evaluate the features of times (...), in their dtype: (..., 2 frequencies)."""
        dtype, device = time.dtype, time.device
        ends = math.log(self.low), math.log(self.high)
        w = torch.linspace(*ends, self.frequencies, dtype=dtype, device=device).exp()
        phase = torch.linspace(0, math.pi / 2, 2, dtype=dtype, device=device)
        return (time[..., None, None] * w[:, None] + phase).sin().flatten(-2)


def raw(time: Tensor) -> Tensor:
    """The time itself: (...) -> (..., 1)."""
    return time[..., None]


def times_per_layer(times: TimeConditioning, depth: int) -> int:
    """Count the times that each layer sees.

    Args:
        times: the time conditioning.
        depth: number of layers.

    Returns:
        The number of times, the same for all layers.

    Raises:
        ValueError: unless it is the same for each of exactly `depth` layers.
    """
    views = times(0.0, 0.0, depth)
    counts = {len(seen) for seen, _ in views}
    layers = sum(layers for _, layers in views)
    if len(counts) != 1 or layers != depth:
        raise ValueError(
            f"a time conditioning must show one number of times to all of {depth} layers, got {views} at s = t = 0"
        )
    return counts.pop()


def time_features(features: TimeFeatures, time: Tensor) -> Tensor:
    """Evaluate the features of times (B,) in float32 at least: (B, n)."""
    return features(time.to(torch.promote_types(time.dtype, torch.float32)))


class TimeEmbedding(nn.Module):
    """Embedding of k times (B,): features, linear, SiLU, linear -> (B, width), in float32 even under autocast.

    With k = 0 the embedding is a learned constant (1, width).

    Args:
        width: width of the embedding.
        count: number of times k.
        features: features of one time.
    """

    def __init__(self, width: int, count: int, features: TimeFeatures) -> None:
        super().__init__()
        self.features = features
        if count == 0:
            self.constant = nn.Parameter(torch.randn(1, width))
            return
        self.inner = SideBySide([features(torch.zeros(1)).shape[-1]] * count, width)
        self.outer = nn.Linear(width, width)

    def forward(self, seen: Times) -> Tensor:
        """Embed k times, each (B,)."""
        if not seen:
            return self.constant
        with full_precision(seen[0].device):
            return self.outer(F.silu(self.inner(*(time_features(self.features, time) for time in seen))))


class LabelEmbedding(nn.Module):
    """Embedding of class labels (B,) in 0..classes-1: (B, width). The extra index `classes` is the null class.

    A label may also be one integer for the whole batch, or None for the null class: (1, width).

    Args:
        classes: number of classes, without the null class.
        width: width of the embedding.

    Raises:
        TypeError: when called with labels that are not integers.
        ValueError: for a number of classes that is not positive, or beyond MOST_CLASSES; when called with labels out
            of range (checked on the CPU only, and not while a graph is traced).
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        between(1, MOST_CLASSES, classes=classes)
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor | int | None) -> Tensor:
        """Embed labels (B,), one integer or None."""
        if label is None:
            return self.table.weight[-1:]
        try:
            label = torch.as_tensor(label, device=self.table.weight.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"labels must be integers, got {shown(label)}") from None
        if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
            raise TypeError(f"labels must be integers, got {label.dtype}")
        if label.ndim > 1:
            raise ValueError(f"labels must have shape (B,), got {tuple(label.shape)}")
        self._check_range(label)
        return self.table(label.reshape(-1))

    def _check_range(self, label: Tensor) -> None:
        if label.device.type != "cpu" or torch.compiler.is_compiling() or type(label) is not Tensor:
            return
        bad = label[(label < 0) | (label > self.classes)]
        if len(bad):
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            allowed = f"0..{self.classes - 1} (or {self.classes}, the null class)"
            raise ValueError(f"labels must lie in {allowed}, got {bad[0].item()}{more}")


def refuse_label(label: Any) -> None:
    """Refuse a label given to a network without classes.

    Raises:
        ValueError: unless the label is None.
    """
    if label is not None:
        raise ValueError("this network was built without classes (classes=None) and takes no label")


class Conditioning(nn.Module):
    """Conditioning of all layers: (s, t, label) -> list of (embedding, number of consecutive layers).

    The embedding is SiLU(time embedding + label embedding), ready for the linear layer of a `Modulation`. Its shape is
    (B, width), or (1, width) if it is the same for the whole batch.

    Args:
        width: width of the embedding.
        depth: number of layers.
        times: which layer sees which time.
        features: how a time is embedded.
        classes: number of classes. None: unconditional.

    Raises:
        ValueError: when called with a label but without classes, or with another number of labels than rows.
    """

    def __init__(
        self, width: int, depth: int, times: TimeConditioning, features: TimeFeatures, classes: int | None
    ) -> None:
        super().__init__()
        self.times = times
        self.depth = depth
        self.time = TimeEmbedding(width, times_per_layer(times, depth), features)
        self.label = None if classes is None else LabelEmbedding(classes, width)

    def forward(self, s: Tensor, t: Tensor, label: Tensor | int | None) -> list[tuple[Tensor, int]]:
        """Embed times s and t (B,) and labels (B,), one integer or None."""
        if self.label is None:
            refuse_label(label)
            return [(F.silu(self.time(seen)), layers) for seen, layers in self.times(s, t, self.depth)]
        known = self.label(label)
        if known.shape[0] not in (1, s.shape[0]):  # len would fix the number of rows of an exported program
            raise ValueError(f"labels must be one for each of the {s.shape[0]} rows of x, got {known.shape[0]}")
        return [(F.silu(self.time(seen) + known), layers) for seen, layers in self.times(s, t, self.depth)]
