"""Samplers of times per frame: each frame of a video, or each position of a sequence, has its own (s, t)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..arguments import at_least, refuse_factory, shown
from .samplers import Times

Arrange = Callable[[Tensor], Tensor]
"""Function of times (n, F), with one row for each row of the batch, that orders or changes them within rows."""


def independent(times: Tensor) -> Tensor:
    """Keep the times of all frames as they were drawn (Chen et al. 2024, Diffusion Forcing, arXiv 2407.01392)."""
    return times


def rising(times: Tensor) -> Tensor:
    """Sort the times within each row, so that earlier frames are cleaner, as in causal sampling."""
    return times.sort(1).values


@dataclass(frozen=True)
class PerFrame:
    """The sampler of `per_frame`.

    Attributes:
        one: Sampler of the times of one frame.
        axis: Axis of the frames in a batch.
        arrange: Order of the times within a row.
    """

    one: Times
    axis: int
    arrange: Arrange

    def __call__(self, n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """Draw times (n, 1, ..., F, ..., 1), with the number F of frames of `like`."""
        if like.ndim <= self.axis:
            raise ValueError(
                f"times per frame of axis {self.axis} need rows with this axis, got a batch of shape "
                f"{tuple(like.shape)}"
            )
        frames = like.shape[self.axis]
        shape = [n, *(frames if axis == self.axis else 1 for axis in range(1, like.ndim))]
        s, t = (self.arrange(time.reshape(n, frames)) for time in self.one(n * frames, progress, like))
        return s.reshape(shape), t.reshape(shape)


def per_frame(times: Times, axis: int, arrange: Arrange = independent) -> PerFrame:
    """Draw times for each frame of a row, for networks with this `frame_axis`.

        per_frame(fm.times.uniform_triangle(), axis=2)              # videos (B, C, F, H, W)
        per_frame(fm.times.uniform_triangle(), axis=1, arrange=fm.times.rising)     # sequences (B, T, C), causal

    Other modifiers come first, because they change times of one frame.

    Args:
        times: Sampler of the times of one frame.
        axis: Axis of the frames in a batch.
        arrange: Function of the times (n, F), applied to s and to t: `independent`, or `rising` for cleaner frames
            first. If t <= s in all frames as drawn, sorted times have it too.

    Returns:
        The sampler.

    Raises:
        TypeError: The sampler or the order is no function.
        ValueError: The axis is below 1, or the sampler is a module, whose weights would not be trained.
    """
    for name, value in (("times are drawn by", times), ("the order of frames is", arrange)):
        if not callable(value):
            raise TypeError(f"{name} a function, such as times.gap() or times.rising, got {shown(value)}")
    refuse_factory("a sampler of times", times, "Times")
    at_least(1, axis=axis)
    if isinstance(times, nn.Module | PerFrame):
        raise ValueError(f"times per frame are drawn by a plain sampler of one frame, got {shown(times)}")
    return PerFrame(times, axis, arrange)


def of_one_frame(times: Any) -> Any:
    """The sampler of one frame; a sampler of rows is returned unchanged."""
    return times.one if isinstance(times, PerFrame) else times


def refuse_frames(times: Any) -> None:
    """Raise ValueError for times per frame, which a modifier of times of rows would mix up."""
    if isinstance(times, PerFrame):
        raise ValueError("this modifier takes times of rows: apply it first, and per_frame to its result")
