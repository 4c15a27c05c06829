"""Samplers of (s, t): their support, and their laws within four standard errors."""

import math

import pytest
import torch

from flowmaps import times
from tests.in_one import in_one
from tests.oracles import normal_cdf

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
    "gap_logit_normal": times.gap_logit_normal(),
    "wide_gap_logit_normal": times.gap_logit_normal(4.0, 3.0, 4.0, 3.0),
    "logit_normal_diagonal": times.logit_normal_diagonal(),
    "angle_normal": times.angle_normal(),
    "after_u_shape": times.after_u_shape(),
    "strip": times.strip(),
    "doubling_strip": times.doubling_strip(3),
    "doubling_steps": times.doubling_steps(5),
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


def has_distribution(values, cdf):
    """Kolmogorov-Smirnov: the largest distance of the two distribution functions, below the value that chance exceeds
    once in ten thousand, sqrt(log(2 / 1e-4) / 2n).
    """
    values = values.sort().values
    n = len(values)
    expected, rank = cdf(values), torch.arange(n + 1, dtype=values.dtype) / n
    distance = torch.maximum(rank[1:] - expected, expected - rank[:-1]).max()
    assert distance < (math.log(2e4) / 2 / n) ** 0.5


def uniform_cdf(x):
    return x


def logit_normal_cdf(x, mean, std):
    return normal_cdf((torch.logit(x) - mean) / std)


@pytest.mark.parametrize("name", SAMPLERS)
@in_one("n", [1, 2, 1000])
def test_source_is_never_below_target(name, n):
    for dtype, expected in ((torch.float64, torch.float64), (torch.float32,) * 2, (torch.bfloat16, torch.float32)):
        s, t = draw(SAMPLERS[name], n, 0.3, torch.zeros(1, dtype=dtype))
        assert s.shape == t.shape == (n,) and s.dtype == t.dtype == expected
        assert (t >= 0).all() and (s >= t).all() and (s <= 1).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_are_made_on_the_device_of_the_batch(name):
    s, t = SAMPLERS[name](4, 0.3, torch.zeros(1, dtype=torch.float16, device="meta"))
    assert s.device.type == t.device.type == "meta" and s.dtype == t.dtype == torch.float32


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_follow_the_global_generator(name):
    first, again = draw(SAMPLERS[name], 5), draw(SAMPLERS[name], 5)
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


@pytest.mark.parametrize("law", [(-0.8, 1.0, -0.4, 1.0), (0.5, 1.5, 1.0, 0.5), (1.0, 2.0, -2.0, 1.5)])
def test_gap_logit_normal(law):
    """The gap is logit-normal; given it, t is logit-normal as far as 1 - gap: the share of its mass below t is uniform,
    whatever the gap.
    """
    mean, std, mean_target, std_target = law
    s, t = draw(times.gap_logit_normal(*law))
    width = s - t
    has_distribution(width, lambda x: logit_normal_cdf(x, mean, std))
    mass = logit_normal_cdf(t, mean_target, std_target) / logit_normal_cdf(1 - width, mean_target, std_target)
    wide = width > width.median()
    for rows in (wide, ~wide):
        has_distribution(mass[rows], uniform_cdf)


def test_logit_normal_diagonal():
    s, t = draw(times.logit_normal_diagonal(-0.4, 1.3))
    assert torch.equal(s, t)
    has_distribution(s, lambda x: logit_normal_cdf(x, -0.4, 1.3))


@pytest.mark.parametrize("data_std", [1.0, 0.5])
def test_angle_normal(data_std):
    """tan(pi s/2) data_std, the noise level on the trigonometric path, is log-normal."""
    s, t = draw(times.angle_normal(-1.0, 1.4, data_std))
    assert (t == 0).all()
    has_distribution((torch.tan(math.pi / 2 * s) * data_std).log(), lambda x: normal_cdf((x + 1.0) / 1.4))


@pytest.mark.parametrize("steepness", [4.0, 1.0])
def test_after_u_shape(steepness):
    """The distribution function of s by integration of its density; of t by the gap, cut at the end of the range."""
    a, mean, std = steepness, -0.8, 1.0
    s, t = draw(times.after_u_shape(a, mean, std))
    whole = 2 * math.expm1(a)
    has_distribution(s, lambda x: (torch.expm1(a * x) + math.exp(a) - torch.exp(a * (1 - x))) / whole)

    assert not ((s > 0.8) & (t > 0) & (t < 0.4)).any()
    inside = logit_normal_cdf(torch.where(s > 0.8, s - 0.4, s), mean, std)  # the chance of t > 0, given s
    spread = (inside * (1 - inside)).sum().sqrt()
    assert abs((t > 0).sum() - inside.sum()) < 4 * spread
    for rows in ((t > 0) & (s > 0.8), (t > 0) & (s <= 0.8)):
        has_distribution(logit_normal_cdf((s - t)[rows], mean, std) / inside[rows], uniform_cdf)


def test_strip():
    s, t = draw(times.strip(0.1, 0.3))
    width = s - t
    has_distribution((width - 0.1) / 0.2, uniform_cdf)
    has_distribution(t / (1 - width), uniform_cdf)


@pytest.mark.parametrize("low, high", [(0.2, 0.2), (0.3, 0.2), (-0.1, 0.2), (0.0, 1.1), (float("nan"), 0.5)])
def test_a_strip_needs_two_ascending_gaps(low, high):
    with pytest.raises(ValueError, match=f"0 <= low < high <= 1, got {low} and {high}|low must be finite, got nan"):
        times.strip(low, high)


@pytest.mark.parametrize("progress, widest", [(0.0, 0.25), (0.33, 0.25), (1 / 3, 0.5), (0.66, 0.5), (2 / 3, 1), (1, 1)])
def test_doubling_strip(progress, widest):
    s, t = draw(times.doubling_strip(3), progress=progress)
    has_distribution((s - t) / widest, uniform_cdf)
    has_distribution(t / (1 - (s - t)), uniform_cdf)


@pytest.mark.parametrize("progress, cells", [(0.0, 8), (0.24, 8), (0.25, 4), (0.5, 2), (0.75, 1), (1.0, 1)])
def test_doubling_steps(progress, cells):
    """All steps of the grid, each as often; binomial, four standard errors."""
    s, t = draw(times.doubling_steps(4), progress=progress)
    assert (s - t == 1 / cells).all()
    share = 1 / cells
    for k in range(cells):
        assert abs((t == k / cells).sum() - N * share) <= 4 * (N * share * (1 - share)) ** 0.5
    assert ((t * cells) == (t * cells).round()).all()


@pytest.mark.parametrize("phases", [1, 2, 3, 7, 10, 49])
def test_phases_are_equal_parts(phases):
    """1000 steps of each phase, told by the share of training that is done, which is rounded."""
    steps = 1000 * phases
    assert all(times.phase_of(step / steps, phases) == step // 1000 for step in range(0, steps, 250))
    assert times.phase_of(1.0, phases) == phases - 1
