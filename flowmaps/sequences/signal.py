"""Signals: sound as a sequence of frames, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import at_least, between, expect_tensor, positive, shown

HIGHEST_RATE = 768_000
"""Highest sample rate, in Hz."""


class Transform(ABC):
    """Frames of a wave: T rows of C numbers, one every `hop` samples.

    Frame i belongs to the time i * hop; the wave is 0 before its start and after its end. So a wave of N samples has
    T = ceil(N / hop) + 1 frames, and T frames are a wave of (T - 1) hop samples.
    """

    @property
    @abstractmethod
    def bins(self) -> int:
        """Number C of numbers of a frame."""

    @property
    @abstractmethod
    def hop(self) -> int:
        """Distance of neighbouring frames, in samples."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """Number of samples after its time that a frame depends on."""

    @abstractmethod
    def frames(self, wave: Tensor, rate: int) -> Tensor:
        """Frames (T, C) of a wave (N,) at a rate in Hz."""

    @abstractmethod
    def wave(self, frames: Tensor, rate: int) -> Tensor:
        """The wave ((T - 1) hop,) of frames (T, C) at a rate in Hz."""


@dataclass(frozen=True)
class Signal:
    """The sound behind rows of frames: a sample rate and an invertible transform.

    The config.json of a run holds the signal of its data, so that samples become sound without the data.

    Args:
        rate: Sample rate, in Hz.
        transform: Frames of a wave, such as `fm.sequences.MDCT()`.

    Raises:
        ValueError: The rate is no whole number of 1 to 768000.
    """

    rate: int
    transform: Transform

    def __post_init__(self) -> None:
        between(1, HIGHEST_RATE, rate=self.rate)
        if not isinstance(self.transform, Transform):
            raise TypeError(f"a transform is one of flowmaps.sequences, such as MDCT(), got {shown(self.transform)}")

    @property
    def bins(self) -> int:
        """Number C of numbers of a frame."""
        return self.transform.bins

    @property
    def frame_rate(self) -> float:
        """Number of frames of a second."""
        return self.rate / self.transform.hop

    def frames(self, wave: Tensor) -> Tensor:
        """Frames of a wave.

        Args:
            wave: The wave (N,), floating point; full scale is [-1, 1].

        Returns:
            Frames (T, C), T = ceil(N / hop) + 1, of the dtype of the wave.

        Raises:
            ValueError: The wave has another shape or dtype, or no samples.
        """
        _expect("wave", wave, 1, "(N,)")
        return self.transform.frames(wave, self.rate)

    def wave(self, frames: Tensor) -> Tensor:
        """The wave of frames.

        Args:
            frames: Frames (T, C), in the units of the transform, at least 2.

        Returns:
            The wave ((T - 1) hop,). Of all frames of a wave (N,) it is that wave and up to hop - 1 zeros.

        Raises:
            ValueError: The frames have another shape or dtype.
        """
        _expect("frames", frames, 2, f"(T, {self.bins})")
        if len(frames) < 2 or frames.shape[1] != self.bins:
            raise ValueError(
                f"frames of this signal have shape (T, {self.bins}) with T of 2 or more, got {tuple(frames.shape)}"
            )
        return self.transform.wave(frames, self.rate)

    def opening(self, wave: Tensor) -> Tensor:
        """The frames of a wave that later samples do not change, for a prompt that is continued.

        Args:
            wave: The wave (N,).

        Returns:
            Frames (P, C).

        Raises:
            ValueError: The wave has no such frame, or another shape or dtype.
        """
        _expect("wave", wave, 1, "(N,)")
        whole = (len(wave) - self.transform.reach) // self.transform.hop + 1
        if whole < 1:
            raise ValueError(
                f"a prompt has at least {self.transform.reach} samples, the first frame, and this wave has {len(wave)}"
            )
        return self.frames(wave)[:whole]

    def seconds(self, count: int) -> float:
        """Duration of the wave of `count` frames, in seconds."""
        at_least(1, count=count)
        return (count - 1) * self.transform.hop / self.rate

    def count(self, seconds: float) -> int:
        """Number of frames of a wave of this duration; a part of a frame counts as one."""
        positive(seconds=seconds)
        return -(-round(seconds * self.rate) // self.transform.hop) + 1


def lengths(z: Tensor) -> Tensor:
    """Number of frames of samples up to the predicted end, after which standardised frames are 0.

    Args:
        z: Standardised frames (B, T, C).

    Returns:
        Lengths (B,); T if no end was predicted.
    """
    place = torch.arange(1, z.shape[1] + 1, device=z.device)
    return ((z != 0).any(2) * place).amax(1)


def _expect(name: str, x: Tensor, ndim: int, shape: str) -> None:
    """Raise ValueError unless a tensor holds floating-point numbers, and has this many axes and some entries."""
    expect_tensor(name, x)
    if x.ndim != ndim or not x.is_floating_point() or not x.numel():
        raise ValueError(f"{name} must be floating-point numbers {shape}, got {x.dtype} of shape {tuple(x.shape)}")
