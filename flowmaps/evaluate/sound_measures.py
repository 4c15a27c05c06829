"""The measures of sound: distances of neighbouring frames, and of durations."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..sequences.signal import Signal, lengths
from .distances import energy_distance
from .measures import Draws, Measure, between

PLACES, MOST = 8, 2048
"""Largest number of places of a row, and of a draw, at which neighbouring frames are compared."""


def neighbours(z: Tensor, places: int = PLACES) -> Tensor:
    """Pairs of neighbouring frames of rows, at even distances up to the end of each row.

    Args:
        z: Standardised frames (B, T, C), 0 after the end of a row.
        places: Number of places of a row; shorter rows have fewer.

    Returns:
        Pairs (N, 2C).
    """
    pairs = (lengths(z) - 1).clamp(min=0)
    count = pairs.clamp(max=places)
    number = torch.arange(places, device=z.device)
    place = ((number + 0.5) * (pairs / count.clamp(min=1))[:, None]).long()
    row, which = (number < count[:, None]).nonzero(as_tuple=True)
    first = place[row, which]
    return torch.cat((z[row, first], z[row, first + 1]), 1)


def sound_measures(signal: Signal, draws: Draws) -> Iterator[Measure]:
    """The energy distance of pairs of neighbouring frames, the main one, and the one of durations.

    Rows of many frames are nearly Gaussian in random directions, so their own distance would see nothing.

    Args:
        signal: The signal of the data.
        draws: The draws of its standardised rows.

    Yields:
        One measure after another.
    """
    places = max(1, min(PLACES, MOST // draws.n))

    def of_frames(x: Tensor, y: Tensor) -> float:
        x, y = (neighbours(z, places) for z in (x, y))
        return energy_distance(x, y) if min(len(x), len(y)) > 1 else float("nan")

    title = f"energy distance of neighbouring standardised frames, at {places} places of a row"
    yield between("distance", f"{title} (it can fall below 0)", of_frames, draws)

    def of_durations(x: Tensor, y: Tensor) -> float:
        return energy_distance(*(lengths(z)[:, None] / signal.frame_rate for z in (x, y)))

    title = (
        f"energy distance of durations up to the end, at most {signal.seconds(draws.held_out[0].shape[1]):g} seconds"
    )
    yield between("duration_distance", title, of_durations, draws)
