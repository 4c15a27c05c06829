"""Spectrograms of waves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..arguments import between, expect_tensor
from ..sequences.signal import HIGHEST_RATE
from .style import SHADES, Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW, HOP = 0.032, 0.008
"""Duration of the window of a spectrogram, and distance of its columns, in seconds."""
RANGE = 70.0
"""Range of the colours, in decibels below the loudest."""
LONGEST = 1200
"""Largest number of columns; the hop grows for longer waves."""


def spectrogram(
    wave: Tensor,
    rate: int,
    path: str | Path | None = None,
    *,
    seconds: float | None = None,
    top: float | None = None,
    size: tuple[float, float] = (4, 2.2),
    theme: Theme = light,
) -> Figure:
    """Draw the spectrogram of a wave: time across, frequency up, brighter is louder, over 70 decibels.

    Args:
        wave: The wave (N,).
        rate: Sample rate, in Hz.
        path: The file to save; its suffix chooses the format. None: not saved.
        seconds: Duration of the time axis, to compare waves of different lengths. None: the one of the wave.
        top: Level of the brightest colour in decibels, as `levels` gives them. None: the loudest of the wave.
        size: Width and height in inches.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        ValueError: The wave has another shape, or no samples.
    """
    shown = levels(wave, rate)
    top = float(shown.max()) if top is None else top
    duration = len(wave) / rate
    with figure(theme, *size, path) as (made, axis):
        axis.imshow(
            shown.numpy(), origin="lower", aspect="auto", cmap=SHADES, vmin=top - RANGE, vmax=top,
            extent=(0, duration, 0, rate / 2000), interpolation="nearest",
        )  # fmt: skip
        axis.set_xlim(0, duration if seconds is None else max(seconds, duration))
        axis.set_xlabel("seconds")
        axis.set_ylabel("kHz")
    return made


def levels(wave: Tensor, rate: int) -> Tensor:
    """Power of a wave in decibels, by frequency and time.

    Args:
        wave: The wave (N,).
        rate: Sample rate, in Hz.

    Returns:
        Levels (frequencies, times); a tone of full scale has 0 decibels, and silence -120.

    Raises:
        ValueError: The wave has another shape, or no samples.
    """
    expect_tensor("wave", wave)
    between(1, HIGHEST_RATE, rate=rate)
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f"a wave has shape (N,), got {tuple(wave.shape)}")
    size = max(round(WINDOW * rate), 4)
    hop = max(round(HOP * rate), -(-len(wave) // LONGEST), 1)
    window = torch.hann_window(size, dtype=torch.float64)
    x = torch.nn.functional.pad(wave.detach().double().cpu(), (size // 2, size // 2 + hop))
    found = torch.stft(x, size, hop, window=window, center=False, return_complex=True)
    return 10 * torch.log10((found.abs() / (window.sum() / 2)).square() + 1e-12)
