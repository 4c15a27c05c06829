"""The times of the papers' own settings, by their distributions, with standard errors."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.methods import variants
from flowmaps.methods.variants import VARIANTS
from flowmaps.times.grids import ddim_levels, edm_levels, karras
from tests.methods.support import DRAWS, Network, absolute, drawn, made
from tests.oracles import PATHS, gaussian, randn

SIGMAS = 4.5
"""Allowed multiple of the standard error: one test in 150 000 would fail by chance."""


def assert_quantile(values, level, expected, density):
    """The quantile of a sample is normal, with standard error sqrt(level (1 - level)/n) over the density there."""
    error = math.sqrt(level * (1 - level) / len(values)) / density
    assert abs(values.quantile(level).item() - expected) < SIGMAS * error


def logit(x):
    return torch.log(x) - torch.log1p(-x)


def assert_logit_normal(values, mean, std):
    """Mean and standard deviation of the logits, with standard errors std/sqrt(n) and std/sqrt(2n)."""
    z, n = logit(values), len(values)
    assert abs(z.mean().item() - mean) < SIGMAS * std / math.sqrt(n)
    assert abs(z.std().item() - std) < SIGMAS * std / math.sqrt(2 * n)


def test_the_grid_of_consistency_models_has_edms_ends():
    for name, points in (("cd_cifar10", 18), ("cd_imagenet64", 40)):
        (term,) = made(fm.methods.landscape.row_named(name), gaussian()).terms
        s, t = drawn(term)
        levels = torch.tensor([0.002, 80.0], dtype=torch.float64)
        low, high = levels / (1 + levels)
        assert len(s.unique()) == points - 1 and s.max() == pytest.approx(high.item()) and not t.any()
        assert term.rule.keywords["to"](s.min()[None], t[:1]).item() == pytest.approx(low.item())
    assert high.item() == pytest.approx(80 / 81)
    assert karras(17)[1:-1].tolist() == edm_levels(17)[1:-1].tolist()


def test_ddim_times_have_the_quartiles_of_stable_diffusion():
    """s is uniform on 50 known points, so a quartile of a sample is a point: the 13th, the 25th or 26th, the 38th."""
    (term,) = variants.lcm_ddim50(gaussian()).terms
    s, _ = drawn(term)
    points, counts = s.unique(return_counts=True)
    assert len(points) == 50 and (counts / DRAWS - 0.02).abs().max() < SIGMAS * math.sqrt(0.02 * 0.98 / DRAWS)
    assert [s.quantile(level).item() for level in (0.25, 0.75)] == pytest.approx([0.42, 0.81], abs=0.005)
    assert points[24] <= s.median() <= points[25] and points[25].item() == pytest.approx(0.63, abs=0.005)
    uniform, _ = drawn(fm.methods.lcm(gaussian()).terms[0])
    assert uniform.quantile(0.25).item() < 0.3  # the control: these are not the times of the method
    with pytest.raises(ValueError, match="points must divide 1000, got 33"):
        ddim_levels(33)


def test_ddim_times_are_uniform_on_the_path_of_the_schedule():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    path = fm.path.Discrete(tuple((1 - betas).cumprod(0).tolist()))
    t = torch.arange(1, 51, dtype=torch.float64) / 50
    level = path.sigma(t) / path.alpha(t)
    torch.testing.assert_close(ddim_levels(50)[1:], level / (1 + level), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["pixel_meanflow_official", "alphaflow_official"])
def test_the_diagonal_is_a_single_draw(name):
    mean, std = (0.8, 0.8) if name.startswith("pixel") else (-0.4, 1.0)
    flat = made(fm.methods.landscape.row_named(name)).terms[0]
    s, t = drawn(flat)
    assert torch.equal(s, t)
    assert_logit_normal(s, mean, std)
    ours, _ = drawn(getattr(fm.methods, name.rpartition("_")[0])().terms[0])
    assert logit(ours).mean() - mean > 0.3 * std  # the larger of two draws
    if name.startswith("pixel"):
        median = 1 / (1 + math.exp(-0.8))
        density = 1 / (math.sqrt(2 * math.pi) * 0.8 * median * (1 - median))
        assert_quantile(s, 0.5, median, density)
        assert median == pytest.approx(0.69, abs=0.005)


@pytest.mark.parametrize(
    ("name", "mean", "std", "target", "least"),
    [
        ("meanflow_cifar10", -0.6, 1.6, (-4.0, 1.6), 0.0),
        ("soflow_cifar10", -0.9, 1.6, (-4.0, 1.6), 1e-4),
        ("soflow_imagenet", 0.2, 0.8, (-1.0, 0.8), 1e-4),
    ],
)
def test_the_source_keeps_its_distribution(name, mean, std, target, least):
    method = getattr(variants, name)()
    s, t = drawn(method.terms[-1])
    assert_logit_normal(s.clamp(min=1e-12) if not least else s, mean, std)
    assert (s - t >= least - 1e-12).all() and (t >= -1e-12).all()
    # t = s - least where the second draw is above: with probability P(N(target) > N(mean))
    share = 0.5 * math.erfc((mean - target[0]) / math.hypot(std, target[1]) / math.sqrt(2))
    seen = (s - t <= least + 1e-9).double().mean().item()
    assert abs(seen - share) < SIGMAS * math.sqrt(share * (1 - share) / DRAWS) + 2e-3 * bool(least)
    if name == "meanflow_cifar10":
        flat, _ = drawn(method.terms[0])
        assert_logit_normal(flat, mean, std)
        assert [term.share for term in method.terms] == [0.25, 0.75]


@pytest.mark.parametrize("name", ["sct_linear", "scd_linear"])
def test_the_noise_levels_are_trigflows_on_the_linear_path(name):
    """log(sigma/sigma_d) is N(-1, 1.4^2) with sigma_d = 1/2; the 5% and 95% of the page."""
    (term,) = made(fm.methods.landscape.row_named(name), gaussian()).terms
    s, t = drawn(term)
    assert_logit_normal(s, -1 + math.log(2), 1.4)
    assert not t.any()
    z = 1.6448536269514722
    for level, sign, printed in ((0.05, -1, 0.069), (0.95, 1, 0.880)):
        at = -1 + math.log(2) + sign * z * 1.4
        expected = 1 / (1 + math.exp(-at))
        assert expected == pytest.approx(printed, abs=1e-3)
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / 1.4 / (expected * (1 - expected))
        assert_quantile(s, level, expected, density)
    ours, _ = drawn(fm.methods.sct().terms[0])
    assert abs(ours.quantile(0.05).item() - 0.047) < 2e-3  # the control: the same numbers as angles


@pytest.mark.parametrize("name", ["lmd_both_orders", "fmm_square"])
def test_the_square_of_times_is_uniform(name):
    (term,) = made(fm.methods.landscape.row_named(name), gaussian()).terms
    s, t = drawn(term)
    cells = torch.histc((4 * s).floor() * 4 + (4 * t).floor(), 16, 0, 16) / DRAWS
    assert (cells - 1 / 16).abs().max() < SIGMAS * math.sqrt(15 / 256 / DRAWS)


def test_physics_informed_distillation_draws_every_level_and_steps_towards_data():
    (term,) = variants.pid_official(gaussian(), compare=torch.sub).terms
    s, t = drawn(term)
    assert (s == 1).all()
    found, counts = t.unique(return_counts=True)
    grid = edm_levels(249)
    torch.testing.assert_close(found, grid, rtol=1e-12, atol=1e-12)
    assert (counts / DRAWS - 1 / 250).abs().max() < SIGMAS * math.sqrt(1 / 250 / DRAWS)
    seen = []

    def f(x, s, t):
        seen.append(t.flatten())
        return x * t**2

    inputs = (torch.ones(250, 1).double(), torch.ones(250, 1).double(), grid[:, None])
    _, slope = term.rule.keywords["derivative"](f, inputs, (0, 0, 1))
    neighbours = torch.cat([grid[1:2], grid[:-1]])
    torch.testing.assert_close(seen[0], neighbours)
    torch.testing.assert_close(slope[:, 0], grid + neighbours)  # (t^2 - u^2)/(t - u)


def test_a_difference_to_a_neighbour_is_along_one_time():
    derivative = fm.derivative.difference_to(lambda t: t / 2)
    x = torch.ones(2, 1)
    for tangents in ((x, 1, 0), (0, 1, 1), (0, 0, 0)):
        with pytest.raises(ValueError, match="derivative in one time alone"):
            derivative(lambda x, s, t: x * s * t, (x, x, x), tangents)


def test_rectified_meanflow_drops_distant_couplings_and_ends_at_80_81():
    method = variants.rectified_meanflow_official()
    s, t = drawn(method.terms[1])
    assert s.max().item() == pytest.approx(80 / 81) and (t >= 0).all() and (t <= s).all()
    assert (drawn(fm.methods.rectified_meanflow().terms[1])[0] > 80 / 81).any()
    flow = fm.FlowMap(Network(seed=1))
    x0, near = torch.zeros(8, 3).double(), torch.full((8, 3), 0.9).double()
    for eps, counts in ((near, True), (near * 1.1, False)):
        loss = method.loss(flow, x0, noise=eps, times=(0.7, 0.2))
        assert bool(loss.value > 0) == counts


def test_trajectory_models_draw_steps_and_denoising_times():
    method = variants.ctm_cifar10(gaussian(), compare=absolute)
    jumps, flat = method.terms
    s, _ = drawn(flat)
    # half of log sigma is N(-1.2, 1.2^2): 1/2 below -1.2, and the grid's noisier 70% starts at 0.63
    lowest = edm_levels(1000)[300].item()
    normal = 0.5 * math.erfc((-1.2 - math.log(lowest / (1 - lowest))) / 1.2 / math.sqrt(2))
    share = (s < lowest).double().mean().item()
    assert abs(share - normal / 2) < SIGMAS * math.sqrt(0.25 / DRAWS)
    torch.manual_seed(0)
    count = jumps.draws["count"](DRAWS, torch.zeros(DRAWS, 3))
    assert count.shape == (DRAWS, 1) and count.min() == 1 and count.max() == 17
    assert abs(count.double().mean().item() - 9) < SIGMAS * math.sqrt((17**2 - 1) / 12 / DRAWS)


def test_mid_training_draws_every_log_level_equally_often():
    (term,) = made(fm.methods.landscape.row_named("cmt_cifar10"), gaussian()).terms
    s, t = drawn(term)
    points, counts = s.unique(return_counts=True)
    steps = torch.log(points / (1 - points)).diff()
    assert len(points) == 16 and not t.any()
    torch.testing.assert_close(steps, torch.full_like(steps, math.log(80 / 0.002) / 16))
    assert points[-1].item() == pytest.approx(80 / 81) and torch.equal(counts, torch.full_like(counts, DRAWS // 16))


LEVELS = [row for row in VARIANTS if row.levels or row.name == "lcm_ddim50"]


@pytest.mark.parametrize("row", LEVELS, ids=lambda row: row.name)
def test_noise_levels_of_another_path_are_refused(row):
    path = PATHS["trigonometric"]
    flow = fm.FlowMap(Network(seed=1), path=path, only_source=row.only_source, only_target=row.only_target)
    with pytest.raises(ValueError, match=f"{row.name} has noise levels .*on Trigonometric.*: take {row.of}"):
        made(row, gaussian(path)).loss(flow, randn(16, 3))


def test_the_times_of_lcm_are_ddims_on_the_path_of_a_schedule_too():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    path = fm.path.Discrete(tuple((1 - betas).cumprod(0).tolist()))
    teacher = fm.FlowMap(Network(seed=2), path=path)
    method = variants.lcm_ddim50(teacher)
    s, _ = drawn(method.terms[0])
    level = path.sigma(s.unique()) / path.alpha(s.unique())
    torch.testing.assert_close(level / (1 + level), ddim_levels(50)[1:], rtol=1e-9, atol=1e-9)
    flow = fm.FlowMap(Network(seed=1), path=path, only_target=0.0)
    assert method.loss(flow, randn(16, 3)).value.isfinite()
