"""Log-mel spectrograms as frames of sound, and their approximate inverse by the algorithm of Griffin and Lim."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..arguments import between, positive
from .signal import Transform

MOST_BINS, MOST_ITERATIONS = 1024, 10_000
"""Largest number of bins, and of iterations of the inverse."""
MOMENTUM = 0.99
"""Momentum of the iterations."""


@dataclass(frozen=True)
class LogMel(Transform):
    """Logarithms of a mel spectrogram: the amplitudes of the short-time Fourier transform in bins of equal pitch.

        y_ik = log max(floor, sum_f M_kf |S_if|),   S_i the Fourier transform of window samples around i hop,

    with a Hann window of `overlap` hops and triangles M_k at equal distances on the mel scale, 2595 log10(1 + f/700).

    The inverse is approximate, as phases are lost: amplitudes by the pseudo-inverse of M, cut off at 0, and phases by
    iterations of Griffin and Lim (1984) with momentum (Perraudin, Balazs and Sondergaard 2013), which begin with phases
    of constant frequency in each bin, so that they are the same each time. Two hops are the least overlap and leave a
    buzz at the rate of the frames: the spectrogram of the inverse of 45 prompts at 8 kHz is off by 5.2 dB with the
    defaults (mean of the loudest 50 dB, standard error 0.05), and by 4.0 dB with twice as many frames, hop=64 and
    overlap=4.

    Args:
        bins: Number C of bins.
        hop: Distance of neighbouring frames, in samples: 128 are 16 ms at 8 kHz.
        floor: Least amplitude.
        lowest: Lowest frequency, in Hz.
        iterations: Iterations of the inverse.
        overlap: Duration of the window, in hops; an even number.

    Raises:
        ValueError: An argument is out of range, or there are so many bins that some hold no frequency.
    """

    bins: int = 32
    hop: int = 128
    floor: float = 1e-3
    lowest: float = 60.0
    iterations: int = 60
    overlap: int = 2

    def __post_init__(self) -> None:
        between(2, MOST_BINS, bins=self.bins)
        between(2, 2**15, hop=self.hop)
        between(0, MOST_ITERATIONS, iterations=self.iterations)
        positive(floor=self.floor, lowest=self.lowest)
        between(2, 16, overlap=self.overlap)
        if self.overlap % 2:
            raise ValueError(f"overlap must be an even number of hops, got {self.overlap}")
        if self.bins > self.reach:
            raise ValueError(
                f"a window of {2 * self.reach} samples has {self.reach + 1} frequencies, fewer than {self.bins} bins "
                "need"
            )

    @property
    def reach(self) -> int:
        """Number of samples after its time that a frame depends on: half of a window."""
        return self.hop * self.overlap // 2

    def frames(self, wave: Tensor, rate: int) -> Tensor:
        """Frames (T, C) of a wave (N,)."""
        missing = -len(wave) % self.hop
        amplitudes = self._spectrum(torch.nn.functional.pad(wave, (0, missing))).abs()
        return (mel(self.bins, self.reach + 1, rate, self.lowest).to(wave) @ amplitudes).clamp(min=self.floor).log().T

    def wave(self, frames: Tensor, rate: int) -> Tensor:
        """A wave ((T - 1) hop,) whose frames are about the given ones (T, C)."""
        inverse = torch.linalg.pinv(mel(self.bins, self.reach + 1, rate, self.lowest).to(frames))
        amplitudes = (inverse @ frames.T.exp()).clamp(min=0)
        length = (len(frames) - 1) * self.hop
        frequency, time = (torch.arange(count).to(frames) for count in amplitudes.shape)
        spectrum = torch.polar(amplitudes, 2 * torch.pi / self.overlap * frequency[:, None] * time)
        before = torch.zeros_like(spectrum)
        for _ in range(self.iterations):
            found = self._spectrum(self._sound(spectrum, length))
            pushed = found + MOMENTUM * (found - before)
            before = found
            spectrum = torch.polar(amplitudes, pushed.angle())
        return self._sound(spectrum, length)

    def _spectrum(self, wave: Tensor) -> Tensor:
        """Short-time Fourier transform (reach + 1, T) of a wave."""
        size = 2 * self.reach
        window = torch.hann_window(size, dtype=wave.dtype, device=wave.device)
        return torch.stft(wave, size, self.hop, window=window, pad_mode="constant", return_complex=True)

    def _sound(self, spectrum: Tensor, length: int) -> Tensor:
        """The wave that is nearest to a spectrum."""
        size = 2 * self.reach
        window = torch.hann_window(size, dtype=spectrum.real.dtype, device=spectrum.device)
        return torch.istft(spectrum, size, self.hop, window=window, length=length)


@lru_cache(maxsize=16)
def mel(bins: int, frequencies: int, rate: int, lowest: float) -> Tensor:
    """Triangles (bins, frequencies) at equal distances on the mel scale, each with height 1.

    Raises:
        ValueError: A bin holds no frequency, or the lowest one is beyond half of the rate.
    """
    if lowest >= rate / 2:
        raise ValueError(f"the lowest frequency must be below half of the rate, {rate / 2:g} Hz, got {lowest:g}")
    ends = torch.tensor([lowest, rate / 2], dtype=torch.float64)
    low, high = (2595 * torch.log10(1 + ends / 700)).tolist()
    corners = 700 * (10 ** (torch.linspace(low, high, bins + 2, dtype=torch.float64) / 2595) - 1)
    f = torch.linspace(0, rate / 2, frequencies, dtype=torch.float64)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = torch.minimum((f - left) / (centre - left), (right - f) / (right - centre)).clamp(min=0)
    if not bool((triangles.sum(1) > 0).all()):
        raise ValueError(
            f"{bins} mel bins are too many for a window of {2 * frequencies - 2} samples at {rate} Hz: some hold no "
            "frequency; take fewer bins or a longer hop"
        )
    return triangles
