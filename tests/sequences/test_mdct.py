"""The transform of waves to frames: its exact inverse, its bins, and the frames that a prompt may show."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.sequences import MDCT, Signal


def wave(n, seed=0):
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("power", [1, 0.5, 0.3])
def test_the_inverse_is_exact_and_keeps_the_length(power):
    for n in (1, 63, 64, 65, 1000):
        signal, x = Signal(8000, MDCT(power=power)), wave(n)
        frames = signal.frames(x)
        back = signal.wave(frames)
        assert frames.shape == (-(-n // 64) + 1, 64) and len(back) == (len(frames) - 1) * 64
        assert float((back[:n] - x).abs().max()) < 1e-12
        assert n == len(back) or float(back[n:].abs().max()) < 1e-12


def test_frames_are_the_formula_and_keep_the_energy():
    x, size = wave(640), 64
    c = MDCT(size, power=1).frames(x, 8000)
    i, k = 3, 10
    n = torch.arange(2 * size, dtype=torch.float64)
    window = torch.sin(math.pi / (2 * size) * (n + 0.5))
    cosine = torch.cos(math.pi / size * (n + 0.5 + size / 2) * (k + 0.5))
    assert float(c[i, k]) == pytest.approx(
        float(math.sqrt(2 / size) * (window * x[(i - 1) * size : (i + 1) * size] * cosine).sum()), abs=1e-12
    )
    assert float(c.square().sum()) == pytest.approx(float(x.square().sum()), rel=1e-12)  # an orthogonal transform
    y = MDCT(size).frames(x, 8000)
    assert torch.allclose(y * y.abs(), c, atol=1e-12)


def test_one_half_of_the_overlap_alone_is_not_the_wave():
    """A control: without the neighbouring frame the aliasing of time stays."""
    signal, x = Signal(8000, MDCT(power=1)), wave(640)
    frames = signal.frames(x)
    frames[4] = 0
    error = (signal.wave(frames) - x).abs()
    assert float(error[3 * 64 : 5 * 64].max()) > 0.5 and float(error[: 3 * 64].max()) < 1e-12


def test_a_tone_stays_in_its_bin():
    rate, k = 8000, 20
    tone = torch.sin(2 * math.pi * (k + 0.5) / 128 * torch.arange(8000, dtype=torch.float64))
    energy = MDCT(power=1).frames(tone, rate)[2:-2].square().mean(0)
    assert float(energy[k] / energy.sum()) > 0.7  # and the window spreads the rest over two neighbours
    assert float(energy[k - 1 : k + 2].sum() / energy.sum()) > 0.99


def test_the_frames_of_a_prompt_do_not_change_when_it_goes_on():
    signal, x = Signal(8000, MDCT()), wave(1000)
    opening = signal.opening(x[:500])
    assert len(opening) == 500 // 64
    assert torch.equal(opening, signal.frames(x)[: len(opening)])
    assert not torch.allclose(signal.frames(x[:500])[len(opening)], signal.frames(x)[len(opening)])
    with pytest.raises(ValueError, match="at least 64 samples, the first frame, and this wave has 63"):
        signal.opening(x[:63])


def test_a_signal_counts_frames_and_seconds():
    signal = Signal(8000, MDCT())
    assert signal.frame_rate == 125 and signal.bins == 64
    assert signal.count(2.0) == 251 and signal.seconds(251) == 2.0
    assert signal.count(0.001) == 2 and signal.seconds(2) == 0.008
    assert fm.sequences.Signal is Signal


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.frames(torch.zeros(2, 9)), r"wave must be floating-point numbers \(N,\), got"),
        (lambda s: s.frames(torch.zeros(0)), r"wave must be floating-point numbers \(N,\), got"),
        (lambda s: s.frames(torch.zeros(9, dtype=torch.int16)), "wave must be floating-point"),
        (lambda s: s.wave(torch.zeros(5, 63)), r"shape \(T, 64\) with T of 2 or more, got \(5, 63\)"),
        (lambda s: s.wave(torch.zeros(1, 64)), r"with T of 2 or more, got \(1, 64\)"),
        (lambda s: s.count(0), "seconds must be positive"),
        (lambda s: s.opening(torch.zeros(2, 999)), "wave must be"),
        (lambda s: Signal(0, s.transform), "rate must be a whole number from 1 to 768000"),
        (lambda s: MDCT(1), "bins must be a whole number from 2"),
        (lambda s: MDCT(power=0), r"power must be in \[0.05, 1\]"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(Signal(8000, MDCT()))
