"""Samplers of (s, t): their support, and their laws within four standard errors."""

import math

import pytest
import torch

from flowmaps import times

N = 40_000
LIKE = torch.zeros(1, dtype=torch.float64)
SAMPLERS = {
    "uniform_triangle": times.uniform_triangle(),
    "uniform_diagonal": times.uniform_diagonal(),
    "logit_normal_pairs": times.logit_normal_pairs(),
    "two_logit_normals": times.logit_normal_pairs(-0.6, 1.6, -4.0, 1.2),
    "gap": times.gap(),
    "dyadic": times.dyadic(),
    "grid": times.grid(),
    "from_noise": times.from_noise(times.uniform_triangle()),
    "to_data": times.to_data(times.uniform_triangle()),
    "with_diagonal": times.with_diagonal(times.gap(), 0.25),
    "mixture": times.mixture(0.3, times.dyadic(), times.gap()),
    "growing_gap": times.growing_gap(times.uniform_triangle()),
}


def draw(sampler, n=N, progress=0.0, like=LIKE):
    torch.manual_seed(0)
    return sampler(n, progress, like)


def has_law(values, mean, std):
    """Mean within four standard errors; standard deviation within four, at the kurtosis of the sample."""
    n, centred = len(values), values - mean
    kurtosis = (centred**4).mean() / std**4
    assert abs(values.mean() - mean) < 4 * std / n**0.5
    assert abs(centred.square().mean().sqrt() - std) < 4 * std * ((kurtosis - 1) / n).sqrt() / 2


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n", [1, 2, 1000])
def test_source_is_never_below_target(name, n):
    for dtype, expected in ((torch.float64, torch.float64), (torch.float32,) * 2, (torch.bfloat16, torch.float32)):
        s, t = draw(SAMPLERS[name], n, 0.3, torch.zeros(1, dtype=dtype))
        assert s.shape == t.shape == (n,) and s.dtype == t.dtype == expected
        assert (t >= 0).all() and (s >= t).all() and (s <= 1).all()


def test_draws_follow_the_global_generator():
    first, again = draw(times.gap(), 5), draw(times.gap(), 5)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_uniform_triangle():
    """Of two uniforms the larger has mean a + 2(b - a)/3, the smaller a + (b - a)/3; their variance is (b - a)^2/18."""
    s, t = draw(times.uniform_triangle(0.2, 0.8))
    has_law(s, 0.6, 0.6 / 18**0.5)
    has_law(t, 0.4, 0.6 / 18**0.5)
    has_law(s - t, 0.2, 0.6 / 18**0.5)
    assert t.min() >= 0.2 and s.max() <= 0.8


def test_uniform_diagonal():
    s, t = draw(times.uniform_diagonal(0.2, 0.8))
    assert torch.equal(s, t) and s.min() >= 0.2 and s.max() <= 0.8
    has_law(s, 0.5, 0.6 / 12**0.5)


def test_logit_normal_pairs():
    """Sorted, but the sum of the logits does not know that; the larger of two normals has mean mu + std/sqrt(pi)."""
    s, t = (torch.logit(time) for time in draw(times.logit_normal_pairs(-0.4, 1.3)))
    has_law(s + t, -0.8, 1.3 * 2**0.5)
    has_law(s, -0.4 + 1.3 / math.pi**0.5, 1.3 * (1 - 1 / math.pi) ** 0.5)


def test_logit_normal_pairs_of_two_laws():
    s, t = (torch.logit(time) for time in draw(times.logit_normal_pairs(-0.6, 1.6, -4.0, 0.5)))
    has_law(s + t, -4.6, (1.6**2 + 0.5**2) ** 0.5)
    torch.manual_seed(0)
    s, t = (torch.logit(time) for time in times.logit_normal_pairs(6.0, 0.5, -6.0, 0.2)(N, 0.0, LIKE))  # never swapped
    has_law(s, 6.0, 0.5)
    has_law(t, -6.0, 0.2)


def test_gap():
    s, t = draw(times.gap(-0.8, 1.0))
    has_law(torch.logit(s - t), -0.8, 1.0)
    has_law(t / (1 - (s - t)), 0.5, 12**-0.5)


def test_dyadic():
    s, t = draw(times.dyadic(4), 4000)
    gaps = (s - t).tolist()
    assert {gap: gaps.count(gap) for gap in set(gaps)} == {1.0: 1000, 0.5: 1000, 0.25: 1000, 0.125: 1000}
    assert torch.equal(s / (s - t), (s / (s - t)).round())  # on the multiples of their own gap
    finest = t[(s - t) == 0.125] * 8
    has_law(finest, 3.5, (63 / 12) ** 0.5)


def test_dyadic_leaves_no_level_out_of_small_batches():
    """With fewer rows than levels each level is drawn as often; binomial, four standard errors."""
    torch.manual_seed(0)
    gaps = torch.cat([s - t for s, t in (times.dyadic(7)(2, 0.0, LIKE) for _ in range(3500))])
    for level in range(7):
        assert abs((gaps == 2.0**-level).sum() - 1000) < 4 * (7000 * (1 / 7) * (6 / 7)) ** 0.5


def test_grid():
    s, t = draw(times.grid(8))
    assert torch.equal(s, t) and set(s.tolist()) == {k / 8 for k in range(1, 9)}
    has_law(s, 9 / 16, (63 / 12) ** 0.5 / 8)


def test_anchored_ends():
    s, t = draw(times.from_noise(times.uniform_triangle()))
    assert (s == 1).all()
    has_law(t, 1 / 3, 18**-0.5)
    s, t = draw(times.to_data(times.uniform_triangle()))
    assert (t == 0).all()
    has_law(s, 2 / 3, 18**-0.5)


def test_shares_are_exact():
    s, t = draw(times.with_diagonal(times.uniform_triangle(), 0.75), 1000)
    assert ((s == t).sum(), (s > t).sum()) == (750, 250)
    s, t = draw(times.mixture(0.3, times.to_data(times.gap()), times.uniform_triangle(0.1, 1.0)), 1000)
    assert (t == 0).sum() == 300
    assert 0 < (t[:300] == 0).sum() < 300  # in random order


@pytest.mark.parametrize("progress, widest", [(0.0, 0.1), (0.25, 0.55), (0.5, 1.0), (1.0, 1.0)])
def test_growing_gap(progress, widest):
    s, t = draw(times.growing_gap(times.uniform_triangle(), until=0.5, start=0.1), progress=progress)
    plain, target = draw(times.uniform_triangle())
    assert torch.equal(s, plain) and (s - t).max() <= widest + 1e-12
    kept = plain - target <= widest
    assert torch.equal(t[kept], target[kept])
    torch.testing.assert_close((s - t)[~kept], torch.full_like(t[~kept], widest))


def test_both_directions():
    s, t = draw(times.both_directions(times.uniform_triangle()), 1000)
    assert (s > t).sum() == (s < t).sum() == 500
    has_law((s - t).abs(), 1 / 3, 18**-0.5)


def test_a_curriculum_must_end():
    with pytest.raises(ValueError, match="share in \\(0, 1\\]"):
        times.growing_gap(times.uniform_triangle(), until=0)
