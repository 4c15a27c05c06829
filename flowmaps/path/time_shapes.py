"""Shapes of times: one number for each row of x, or per frame, for each index of one further axis of x.

Times of rows are (B, 1, ..., 1). Times of frames are (B, 1, F, 1, 1) beside videos (B, C, F, H, W), or (B, T, 1) beside
sequences (B, T, C). The path, and each formula that treats numbers of x apart, broadcast them. Along a jump all frames
move at rates of their own, t - s of each frame, and arrive together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Time = float | Tensor


def expand(t: Any, x: Tensor) -> Tensor:
    """Reshape a time to (B, 1, ..., 1), to broadcast against x of shape (B, ...).

    Args:
        t: A number, a 0-d tensor, or a tensor of shape (B,), (B, 1) or (B, 1, ..., 1).
        x: The batch, which also gives the device and the dtype. The dtype is never below float32.

    Returns:
        The time, (B, 1, ..., 1).

    Raises:
        TypeError: The time is no real number and no tensor of such numbers.
        ValueError: The shape does not fit the batch.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = (x.shape[0],) + (1,) * (x.ndim - 1)
    if not hasattr(t, "to"):  # a number, or one of numpy's
        if isinstance(t, str | bytes | bool | complex) or t is None:
            raise TypeError(f"a time must be a number or a tensor of numbers, got {t!r}")
        t = torch.as_tensor(t, dtype=dtype, device=x.device)
    if tuple(t.shape) == rows and t.dtype == dtype:
        return t
    if t.is_complex():
        raise TypeError(f"a time must be a number or a tensor of real numbers, got {t.dtype}")
    if tuple(t.shape) == rows:
        return t.to(dtype)
    if t.ndim == 0 or t.numel() == 1:
        return t.to(dtype=dtype, device=x.device).reshape((1,) * x.ndim).expand(rows)
    if t.shape[0] == t.numel() == x.shape[0]:
        return t.to(dtype=dtype, device=x.device).reshape(rows)
    raise ValueError(
        f"a time must be a number, a 0-d tensor, ({x.shape[0]},) or {rows} beside x of shape {tuple(x.shape)}, got "
        f"{tuple(t.shape)}"
    )


def at_time(t: Any, x: Tensor) -> Tensor:
    """Reshape a time as `expand` does, after a check of a plain number; the values of tensors are not read.

    Args:
        t: The time, in any shape that `expand` takes.
        x: The batch.

    Returns:
        The time, (B, 1, ..., 1).

    Raises:
        TypeError: The time is no real number and no tensor of such numbers.
        ValueError: A number is outside [0, 1], or the shape of a tensor does not fit the batch.
    """
    return expand(_inside(t), x)


def at_frames(t: Any, x: Tensor) -> Tensor:
    """Reshape a time as `expand_frames` does, after a check of a plain number, as `at_time` does."""
    return expand_frames(_inside(t), x)


def _inside(t: Any) -> Any:
    """The time, unless it is a number outside of [0, 1]."""
    if isinstance(t, int | float) and not 0 <= t <= 1:
        raise ValueError(f"a time must lie in [0, 1] (0 is data, 1 is noise), got {t:g}")
    return t


def frame_axis(t: Any, x: Any) -> int | None:
    """Axis of x along which a time differs; None for one time a row, or another shape.

    Args:
        t: A time.
        x: The batch.

    Returns:
        The axis, at least 1.
    """
    shape = tuple(getattr(t, "shape", ()))
    if len(shape) != x.ndim:
        return None
    axes = [axis for axis in range(1, x.ndim) if shape[axis] != 1]
    fits = len(axes) == 1 and shape[axes[0]] == x.shape[axes[0]] and shape[0] in (1, x.shape[0])
    return axes[0] if fits else None


def expand_frames(t: Any, x: Tensor) -> Tensor:
    """Reshape a time as `expand` does; a time per frame keeps the axis along which it differs.

    Args:
        t: A time in any shape that `expand` takes, or a time per frame, (B, 1, ..., F, ..., 1) or without rows.
        x: The batch, which also gives the device and the dtype. The dtype is never below float32.

    Returns:
        The time, (B, 1, ..., 1) or (B, 1, ..., F, ..., 1).

    Raises:
        TypeError: The time is no real number and no tensor of such numbers.
        ValueError: The shape does not fit the batch.
    """
    if frame_axis(t, x) is None:
        return expand(t, x)
    if t.is_complex():
        raise TypeError(f"a time must be a number or a tensor of real numbers, got {t.dtype}")
    dtype = torch.promote_types(x.dtype, torch.float32)
    return t.to(dtype=dtype, device=x.device).expand(x.shape[0], *t.shape[1:])


def common_frames(s: Tensor, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, int | None]:
    """Give two times one shape.

    Args:
        s: A time as `expand_frames` returns it.
        t: Another one.
        x: The batch.

    Returns:
        Both times, per frame if one of them is, and the axis of the frames. None: times of rows.

    Raises:
        ValueError: They differ along two axes.
    """
    axis, other = frame_axis(s, x), frame_axis(t, x)
    if axis is None and other is None:
        return s, t, None
    if axis is not None and other is not None and axis != other:
        raise ValueError(
            f"s and t must be times of the same frames, but beside x of shape {tuple(x.shape)} they differ along the "
            f"axes {axis} and {other}"
        )
    axis = other if axis is None else axis
    shape = [x.shape[k] if k in (0, axis) else 1 for k in range(x.ndim)]
    return s.expand(shape), t.expand(shape), axis


def expect_frames(network: Any, axis: int, x: Tensor) -> None:
    """Check that a network takes times per frame.

    Args:
        network: The network, with the attribute `frame_axis` if it takes them.
        axis: Axis of the frames.
        x: The batch.

    Raises:
        ValueError: It takes one time a row, or the frames of another axis.
    """
    if getattr(network, "frame_axis", None) != axis:
        raise ValueError(
            f"these are times per frame, along axis {axis} of x, and the network, a {type(network).__name__}, does not "
            f"take them: give times (B,), or a network with the attribute `frame_axis = {axis}`, which is called with "
            f"times (B, {x.shape[axis]}) too"
        )


def is_per_frame(t: Any) -> bool:
    """Whether times as `expand_frames` returns them hold more than one number a row."""
    return any(size != 1 for size in t.shape[1:])


def frames_as_rows(x: Tensor, axis: int) -> Tensor:
    """Join the frames of all rows to one batch: (B, ..., F, ...) to (B F, ...).

    Args:
        x: A tensor of the batch's shape, such as a residual.
        axis: Axis of the frames.

    Returns:
        The frames, in the order of times (B, F) that are flattened.
    """
    return x.movedim(axis, 1).flatten(0, 1)
