"""Resampling: tones keep their size and phase below the lower band and vanish above it."""

import math

import pytest
import torch

from flowmaps.sequences.resample import resample


def tone(hz, rate, n):
    return torch.sin(2 * math.pi * hz * torch.arange(n, dtype=torch.float64) / rate + 0.3)


@pytest.mark.parametrize(("rate", "wanted"), [(16000, 8000), (8000, 16000), (44100, 8000), (8000, 11025)])
def test_tones_in_both_bands_are_kept(rate, wanted):
    found = resample(tone(1000, rate, rate // 4), rate, wanted)
    assert len(found) == -(-(rate // 4) * wanted // rate)
    inside = slice(60, len(found) - 60)  # the wave is 0 outside of itself
    assert float((found - tone(1000, wanted, len(found)))[inside].abs().max()) < 1e-3


def test_frequencies_beyond_the_new_band_are_removed():
    found = resample(tone(5000, 16000, 4000), 16000, 8000)[60:-60]
    assert float(found.abs().max()) < 1e-3
    assert float(tone(5000, 16000, 4000)[::2][60:-60].abs().max()) > 0.9  # a control: samples left out alias


def test_one_rate_changes_nothing_and_rates_without_a_ratio_are_refused():
    x = tone(1000, 8000, 100)
    assert resample(x, 8000, 8000) is x
    with pytest.raises(ValueError, match="44100 Hz and 44099 Hz have no simple ratio"):
        resample(x, 44100, 44099)
