"""Log-mel frames: the bin of a tone, the formula, and the inverse of a chirp by the algorithm of Griffin and Lim."""

import math

import pytest
import torch

from flowmaps.sequences import LogMel, Signal
from flowmaps.sequences.log_mel import mel

RATE = 8000


def tone(hz, seconds=1.0):
    return 0.5 * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE)


def chirp(seconds=1.0):
    """A tone that rises from 200 to 3000 Hz."""
    t = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return 0.5 * torch.sin(2 * math.pi * (200 * t + 1400 * t**2 / seconds))


def test_a_tone_stays_in_its_bin_and_frames_are_counted_like_those_of_other_transforms():
    signal = Signal(RATE, LogMel())
    frames = signal.frames(tone(1000))
    assert frames.shape == (signal.count(1.0), 32) and signal.seconds(len(frames)) >= 1.0
    triangles = mel(32, 129, RATE, 60.0)
    wanted = int((triangles[:, 32]).argmax())  # 1000 Hz is the frequency 32 of 31.25 Hz
    assert bool((frames[4:-4].argmax(1) == wanted).all())
    assert float(frames[10, wanted + 4]) < float(frames[10, wanted]) - 3  # a factor of 20


def test_silence_is_the_floor_and_twice_the_wave_adds_log_2():
    signal = Signal(RATE, LogMel())
    assert torch.allclose(signal.frames(torch.zeros(500, dtype=torch.float64)), torch.tensor(1e-3).double().log())
    x = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(signal.frames(2 * x), signal.frames(x) + math.log(2))


def test_the_frames_of_an_inverted_chirp_are_close_and_griffin_lim_is_the_reason():
    """A control without iterations is several times further away."""
    x, errors = chirp(), []
    for iterations in (60, 0):
        signal = Signal(RATE, LogMel(iterations=iterations))
        frames = signal.frames(x)
        back = signal.wave(frames)
        assert len(back) == (len(frames) - 1) * 128
        again, loud = signal.frames(back), frames > frames.max() - 4
        errors.append(float((again - frames)[loud].abs().mean()))
    assert errors[0] < 0.3 and errors[1] > 2 * errors[0], errors
    assert torch.equal(signal.wave(frames), signal.wave(frames))


def test_a_longer_overlap_has_as_many_frames_and_a_finer_spectrum():
    signal = Signal(RATE, LogMel(hop=64, overlap=4))
    frames = signal.frames(tone(1000))
    assert signal.transform.reach == 128 and frames.shape == (126, 32)
    two = Signal(RATE, LogMel(hop=128)).frames(tone(1000))
    assert torch.allclose(frames[4:120:2], two[2:60], atol=1e-9)  # the same windows at every second time
    assert float((signal.frames(signal.wave(frames)) - frames)[8:-8, 13:15].abs().mean()) < 0.1


def test_the_frames_of_a_prompt_do_not_change_when_it_goes_on():
    signal, x = Signal(RATE, LogMel()), tone(300) + tone(700)
    opening = signal.opening(x[:2000])
    assert len(opening) == (2000 - 128) // 128 + 1
    assert torch.allclose(opening, signal.frames(x)[: len(opening)])
    assert not torch.allclose(signal.frames(x[:2000])[len(opening)], signal.frames(x)[len(opening)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bins": 1}, "bins must be a whole number from 2"),
        ({"hop": 1}, "hop must be"),
        ({"floor": 0}, "floor must be positive"),
        ({"overlap": 3}, "overlap must be an even number of hops, got 3"),
        ({"bins": 200, "hop": 64}, "fewer than 200 bins"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LogMel(**arguments)


def test_bins_without_a_frequency_are_refused():
    with pytest.raises(ValueError, match="some hold no frequency"):
        Signal(RATE, LogMel(bins=60, hop=64)).frames(tone(100))
