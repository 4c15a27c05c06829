"""What a network knows besides x: the two times and the class, and which layer sees which time.

A *time conditioning* is a function (s, t, depth) -> list of (times, layers): how `depth` layers, from the first to the
last, share out what they see. `pair`, for example, shows every layer both times; `decoupled` shows s to the early
layers and t to the late ones. It only does arithmetic, so it also works on plain numbers, which is how a network learns
at construction how many times its layers see.

Times are raw, in [0, 1] (t = 0 data, t = 1 noise). Whatever multiplies them multiplies dV/ds and dV/dt too, so all
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
    """Every layer sees s - t alone; where it starts must be read from x."""
    return [((s - t,), depth)]


def source_only(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """Every layer sees s alone: an ordinary velocity network, v(x, s)."""
    return [((s,), depth)]


def expanded(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """Every layer sees the one time c = 1 - s + 2 t: FACM's expanded time axis (Peng et al. 2025, arXiv 2507.03738).

    For maps to t = 0 that also know their velocity. A jump to the data sees c = 1 - s, in [0, 1], the diagonal t = s
    sees c = 1 + s, in [1, 2], and the two meet at s = t = 0, where they are the same task. c tells (s, t) only in these
    two modes: for t between them it is that of other pairs too.
    """
    return [((1 - s + 2 * t,), depth)]


def none(s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
    """No layer sees any time; both must be read from x."""
    return [((), depth)]


@dataclass(frozen=True)
class Decoupled:
    """The first `share` of the layers sees s, the others see t, through one embedder.

    The decoupled MeanFlow of Lee et al. 2025, arXiv 2510.24474. At s = t this is the one-time network (`source_only`)
    with the same weights, so a trained velocity network becomes a flow map without new parameters. At least one layer
    is on either side; ValueError for a share outside (0, 1) or a network of fewer than two layers that see a time.
    """

    share: float = 2 / 3

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"the share of layers that see s must lie between 0 and 1, got {self.share:g}")

    def __call__(self, s: Any, t: Any, depth: int) -> list[tuple[Times, int]]:
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
    """sin(w t) and cos(w t) for w spaced geometrically from `low` to `high`: (...) -> (..., 2 frequencies).

    The w are angular frequencies. The feature of the highest one has slope `high` in time, so `high` bounds what the
    embedding adds to a time derivative. The default resolves time differences of about 1/30; lower it towards 1 where
    training with time derivatives is unstable. ValueError unless 0 < low <= high and there is at least one frequency.
    """

    frequencies: int = 16
    low: float = 1.0
    high: float = 30.0

    def __post_init__(self) -> None:
        if self.frequencies < 1 or not 0 < self.low <= self.high:
            raise ValueError(f"expected frequencies >= 1 and 0 < low <= high, got {self}")

    def __call__(self, time: Tensor) -> Tensor:
        dtype, device = time.dtype, time.device
        ends = math.log(self.low), math.log(self.high)
        w = torch.linspace(*ends, self.frequencies, dtype=dtype, device=device).exp()
        phase = torch.linspace(0, math.pi / 2, 2, dtype=dtype, device=device)
        return (time[..., None, None] * w[:, None] + phase).sin().flatten(-2)


def raw(time: Tensor) -> Tensor:
    """The time itself: (...) -> (..., 1)."""
    return time[..., None]


def times_per_layer(times: TimeConditioning, depth: int) -> int:
    """How many times a layer sees; ValueError unless it is the same number for each of exactly `depth` layers."""
    views = times(0.0, 0.0, depth)
    counts = {len(seen) for seen, _ in views}
    layers = sum(layers for _, layers in views)
    if len(counts) != 1 or layers != depth:
        raise ValueError(
            f"a time conditioning must show one number of times to all of {depth} layers, got {views} at s = t = 0"
        )
    return counts.pop()


def time_features(features: TimeFeatures, time: Tensor) -> Tensor:
    """The features of times (B,), in their dtype but never below float32: (B, n)."""
    return features(time.to(torch.promote_types(time.dtype, torch.float32)))


class TimeEmbedding(nn.Module):
    """k times (B,) -> features -> linear -> SiLU -> linear: (B, width). Runs in float32 at least, also under autocast.

    With k = 0 the embedding is a learned constant.
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
        if not seen:
            return self.constant
        with full_precision(seen[0].device):
            return self.outer(F.silu(self.inner(*(time_features(self.features, time) for time in seen))))


class LabelEmbedding(nn.Module):
    """Class labels (B,) in 0..classes-1 -> (B, width). The extra index `classes` is the null class: no label known.

    A label may also be one integer for the whole batch, or None for the null class: (1, width). TypeError for labels
    that are not integers; ValueError for labels out of range (read on the CPU only, and not while a graph is traced).
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor | int | None) -> Tensor:
        if label is None:
            return self.table.weight[-1:]
        label = torch.as_tensor(label, device=self.table.weight.device)
        if label.is_floating_point() or label.dtype == torch.bool:
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
    """ValueError for a label given to a network without classes."""
    if label is not None:
        raise ValueError("this network was built without classes (classes=None) and takes no label")


class Conditioning(nn.Module):
    """(s, t, label) -> list of (embedding, layers): so many layers in a row are conditioned on this embedding.

    The embedding is SiLU(time embedding + label embedding), ready for the linear of a `Modulation`; its shape is
    (B, width), or (1, width) where it is the same for the whole batch. ValueError for a label where classes is None.
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
        if self.label is None:
            refuse_label(label)
            return [(F.silu(self.time(seen)), layers) for seen, layers in self.times(s, t, self.depth)]
        known = self.label(label)
        if known.shape[0] not in (1, s.shape[0]):  # len would fix the number of rows of an exported program
            raise ValueError(f"labels must be one for each of the {s.shape[0]} rows of x, got {known.shape[0]}")
        return [(F.silu(self.time(seen) + known), layers) for seen, layers in self.times(s, t, self.depth)]
