"""Another sample rate for a wave."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import at_least

CROSSINGS, PASSED = 16, 0.95
"""Zeros of the kernel on each side, and the share of the lower band up to which frequencies are kept."""
MOST_ENTRIES = 10**8
"""Largest number of entries of the kernels."""


def resample(wave: Tensor, rate: int, wanted: int) -> Tensor:
    """Resample a wave, by a low-pass filter that removes all frequencies that the lower of both rates cannot hold.

    Sample i of the result is sum_n wave_n h(i / wanted - n / rate), with a sinc under a cosine-squared window,

        h(tau) = (b / rate) sinc(b tau) cos^2(pi b tau / 2m)  for |b tau| < m,  b = 0.95 min(rate, wanted), m = 16.

    Args:
        wave: The wave (N,), floating point.
        rate: Its sample rate, in Hz.
        wanted: The sample rate of the result, in Hz.

    Returns:
        The wave (ceil(N wanted / rate),).

    Raises:
        ValueError: Both rates have no simple ratio.
    """
    at_least(1, rate=rate, wanted=wanted)
    if rate == wanted:
        return wave
    up, down = wanted // math.gcd(rate, wanted), rate // math.gcd(rate, wanted)
    band = PASSED * min(up, down) / down  # b / rate; samples of the wave are whole numbers n here
    reach = math.ceil(CROSSINGS / band)
    if up * (2 * reach + down) > MOST_ENTRIES:
        raise ValueError(f"{rate} Hz and {wanted} Hz have no simple ratio: resample the files with another program")
    n = torch.arange(-reach, reach + down, dtype=torch.float64)
    u = band * (torch.arange(up, dtype=torch.float64)[:, None] * down / up - n)
    window = torch.where(u.abs() < CROSSINGS, torch.cos(math.pi * u / (2 * CROSSINGS)).square(), 0.0)
    kernel = (band * torch.sinc(u) * window).to(wave)
    padded = torch.nn.functional.pad(wave, (reach, reach + down))
    found = torch.nn.functional.conv1d(padded[None, None], kernel[:, None], stride=down)
    return found[0].T.flatten()[: -(-len(wave) * up // down)]
