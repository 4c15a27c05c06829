"""Spectrograms: the level and place of a tone, silence, and waves of any length."""

import math

import pytest
import torch

from flowmaps.figures.sound import levels, spectrogram


def test_a_tone_of_full_scale_has_0_decibels_at_its_frequency():
    rate = 8000
    x = torch.sin(2 * math.pi * 1000 * torch.arange(rate) / rate)
    found = levels(x, rate)
    assert found.shape == (129, 127) and int(found[:, 60].argmax()) == 32  # bins of 31.25 Hz
    assert float(found[32, 60]) == pytest.approx(0, abs=0.01)
    assert float(levels(torch.zeros(500), rate).max()) == pytest.approx(-120)


def test_figures_have_a_time_axis_in_seconds(tmp_path):
    made = spectrogram(torch.randn(3), 8000, tmp_path / "a.png", seconds=2.0)
    [axis] = made.axes
    assert axis.get_xlim() == (0, 2) and axis.get_ylim() == (0, 4) and (tmp_path / "a.png").exists()
    with pytest.raises(ValueError, match="a wave has shape"):
        spectrogram(torch.zeros(2, 5), 8000)
