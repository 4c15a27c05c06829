"""Motion of clips: closed forms, a frozen clip as control, and a student beside its teacher."""

import math

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.evaluate import compare_motion, evaluate, motion, motion_of_clips, motion_ratio, paired_motion_ratio
from tests.oracles import randn

SHAPE = (2, 3, 2, 2)  # channels, frames, height, width


def clips(n, speed=1.0, seed=0):
    """A ramp of this speed times a number of each clip."""
    own = randn(n, 1, 1, 1, 1, seed=seed).abs()
    return speed * own * torch.arange(3.0, dtype=torch.float64)[:, None, None].expand(n, *SHAPE)


def test_motion_of_ramps_and_of_frozen_clips():
    x, frozen = clips(6), clips(6)[:, :, :1].expand(6, *SHAPE)
    own = x[:, 0, 1, 0, 0]
    torch.testing.assert_close(motion_of_clips(x), own)
    value, error = motion(x)
    assert math.isclose(value, own.mean()) and math.isclose(error, own.std() / math.sqrt(6))
    assert motion(frozen) == (0, 0) and motion_ratio(frozen, x)[0] == 0 and paired_motion_ratio(frozen, x)[0] == 0
    half = paired_motion_ratio(0.5 * x, x)
    assert math.isclose(half.value, 0.5) and half.stderr < 1e-12 < motion_ratio(0.5 * x, x).stderr
    assert math.isnan(motion(x[:1]).stderr)


def test_the_standard_error_of_a_ratio_is_its_spread_over_sets():
    """400 pairs of sets of 160 clips: their mean has a standard error of 0.003, their spread one of 3.5%."""
    x, y = clips(64_000, 0.7, seed=1).split(160), clips(64_000, seed=2).split(160)
    found = [motion_ratio(a, b) for a, b in zip(x, y, strict=True)]
    values = torch.tensor([ratio.value for ratio in found])
    errors = torch.tensor([ratio.stderr for ratio in found])
    assert abs(values.mean() - 0.7) < 0.015 and abs(errors.mean() / values.std() - 1) < 0.14


def test_refusals():
    x = clips(4)
    for wrong in (x[:, :, 0], x[:, :, :1], x[:0]):
        with pytest.raises(ValueError, match=r"clips \(N, C, F, H, W\) of at least two frames"):
            motion(wrong)
    with pytest.raises(ValueError, match="stand still"):
        motion_ratio(x, torch.zeros_like(x))
    with pytest.raises(ValueError, match="needs its partner"):
        paired_motion_ratio(x, x[:2])
    with pytest.raises(ValueError, match="hold NaN"):
        motion(x * math.nan)


class Gaussian(nn.Module):
    """The average velocity of clips of independent numbers N(0, 1/4)."""

    def __init__(self):
        super().__init__()
        self.exact = fm.exact.Gaussian(torch.zeros(SHAPE), 0.5)

    def forward(self, x, s, t):
        return self.exact.average_velocity(x, s, t)


class Frozen(Gaussian):
    """Jumps whose result is the first frame, again and again."""

    def forward(self, x, s, t):
        gap = (t - s).reshape(-1, 1, 1, 1, 1)
        first = x[:, :, :1] + gap * self.exact.average_velocity(x, s, t)[:, :, :1]
        return torch.where(gap == 0, x, (first - x) / torch.where(gap == 0, torch.ones_like(gap), gap))


def test_an_evaluation_of_clips_shows_motion_and_a_frozen_map_shows_none():
    data = fm.data.as_data(0.5 * torch.randn(600, *SHAPE, generator=torch.Generator().manual_seed(0)))
    small = {"n": 128, "draws": 2, "jumps": (1,), "ode_steps": ()}
    right, frozen = (evaluate(fm.FlowMap(network), data, **small) for network in (Gaussian(), Frozen()))
    expected = 0.5 * math.sqrt(2) * math.sqrt(2 / math.pi)
    assert list(right["measures"]) == ["distance", "motion", "motion_ratio"]
    for place in (right["motion_floor"], right["rows"][0]["motion"]):
        assert abs(place - expected) < 4 * right["motion_floor_stderr"]
    for place in (right["motion_ratio_floor"], right["rows"][0]["motion_ratio"]):
        assert abs(place - 1) < 4 * right["motion_ratio_floor_stderr"] < 0.2
    assert frozen["rows"][0]["motion"] < 1e-6 and frozen["rows"][0]["motion_ratio"] < 1e-6


def test_a_student_beside_its_teacher():
    teacher = fm.FlowMap(Gaussian())
    data = fm.data.as_data(0.5 * torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0)))
    rows = compare_motion(fm.FlowMap(Gaussian()), teacher, data, jumps=(1, 2), teacher_steps=64)
    names = ["teacher, 64 Euler steps", "floor: half of them against the other half"]
    assert [row.clips for row in rows] == [*names, "student, 1 jump", "student, 2 jumps", "data"]
    assert rows[0].ratio == (1, 0) and abs(rows[1].ratio.value - 1) < 4 * rows[1].ratio.stderr
    for row in rows[2:4]:  # the same map up to Euler steps, so that pairs leave hardly an error
        assert abs(row.ratio.value - 1) < 0.03 and row.ratio.stderr < rows[1].ratio.stderr / 5
    still = compare_motion(fm.FlowMap(Frozen()), teacher, fm.data.no_data(SHAPE), jumps=(1,))
    assert [row.clips for row in still][2:] == ["student, 1 jump"]
    assert still[2].motion.value < 1e-6 and still[2].ratio.value < 1e-6
    with pytest.raises(ValueError, match=r"clips \(C, F, H, W\)"):
        compare_motion(teacher, teacher, fm.data.no_data((2,)))
