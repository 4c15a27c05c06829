"""Windows of frames: rows (T, C) of recordings of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.in_order import VALID
from .core import Batch
from .transformed import BatchDraws


@dataclass(frozen=True, eq=False)
class FrameRows:
    """A table of windows of recordings; frames after the end of a recording are 0 and not valid.

    Args:
        frames: The frames of all recordings, one after another, (N, C).
        start: Number of the first frame of each window, (rows,).
        count: Number of frames from there to the end of the recording, (rows,).
        length: Number T of frames of a window.
        label: Class of each window (rows,).
    """

    frames: Tensor
    start: Tensor
    count: Tensor
    length: int
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `sources.IndexedRows`."""
        place = torch.arange(self.length)
        valid = place < self.count[index][:, None]
        x = self.frames[torch.where(valid, self.start[index][:, None] + place, 0)]
        label = None if self.label is None else self.label[index]
        return _padded(Batch(x, label, given={VALID: valid}))


def _padded(batch: Batch) -> Batch:
    """The batch with zeros in frames that are not valid."""
    assert batch.given is not None
    return batch._replace(x0=batch.x0.masked_fill(~batch.given[VALID][..., None], 0))


@dataclass(frozen=True)
class ZeroPadding:
    """Transform of a batch of windows: frames that are not valid are 0, also after the rows were standardised."""

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Set the frames of a batch."""
        return _padded(batch)


def windows(lengths: Sequence[int], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training windows: one around each frame of each recording, shifted to lie inside.

    So every frame is chosen equally often. The last window of a recording ends one frame after it, which shows its
    end; recordings that are shorter than a window start at its start.

    Args:
        lengths: Number of frames of each recording.
        length: Number of frames of a window.

    Returns:
        Recording, first frame in it, and number of frames from there to its end, each (rows,).
    """
    recording = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    place = torch.cat([torch.arange(one) for one in lengths])
    size = torch.tensor(lengths)[recording]
    first = (place - length // 2).clamp(min=0).minimum((size - length + 1).clamp(min=0))
    return recording, first, size - first


def apart(lengths: Sequence[int], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Held-out windows: one beside the other, as few as cover each recording; the last may overlap the one before.

    Args:
        lengths: Number of frames of each recording.
        length: Number of frames of a window.

    Returns:
        Recording, first frame in it, and number of frames from there to its end, each (rows,).
    """
    each = [-(-one // length) for one in lengths]
    recording = torch.arange(len(lengths)).repeat_interleave(torch.tensor(each))
    number = torch.cat([torch.arange(one) for one in each])
    size = torch.tensor(lengths)[recording]
    first = (number * length).minimum((size - length + 1).clamp(min=0))
    return recording, first, size - first
