"""The papers' own settings: the times, losses and costs of each variant, and runs that are saved and resumed."""

import copy
import inspect
import json
import math

import pytest
import torch

import flowmaps as fm
from flowmaps import cli
from flowmaps.methods import LANDSCAPE, variants
from flowmaps.methods.variants import VARIANTS
from flowmaps.methods.variants.consistency_models import edm_weight
from flowmaps.times.grids import ddim_levels, edm_levels, karras, points_below
from tests.methods.support import Network, batch
from tests.methods.test_landscape import Wide, as_the_post_counts, passes, times_of
from tests.oracles import PATHS, flow_of, gaussian, jacobian_product, randn, times

EACH = pytest.mark.parametrize("row", VARIANTS, ids=[row.name for row in VARIANTS])
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 32}
DRAWS = 200_000
SIGMAS = 4.5
"""Allowed multiple of the standard error: one test in 150 000 would fail by chance."""


def absolute(a, b):
    """A distance for vectors, in the place of LPIPS."""
    return (a - b).abs().mean(1, keepdim=True)


def make(row, teacher=None, **options):
    """A variant with a distance that needs no weights."""
    known = inspect.signature(row.build).parameters
    options = {"compare": absolute} | options if "compare" in known else options
    return row.build(**({"teacher": teacher} if row.needs_teacher else {}), **options)


def flow_for(row, network):
    return fm.FlowMap(network, only_source=row.only_source, only_target=row.only_target)


def drawn(term, progress=0.5, n=DRAWS):
    """(s, t) of a term, in float64."""
    torch.manual_seed(0)
    return term.at(progress).times(n, progress, torch.zeros(n, dtype=torch.float64))


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


@EACH
def test_a_variant_is_found_by_its_name_like_a_method(row):
    assert row.build.__name__ == row.name and getattr(variants, row.name) is row.build
    assert row.name.startswith(f"{row.of}_") and row.of in {one.name for one in LANDSCAPE}
    assert fm.methods.landscape.row_named(row.name.replace("_", "-")) is row
    assert row.setting and row.sets and json.loads(json.dumps(row.as_dict()))["of"] == row.of
    assert make(row, fm.FlowMap(Network(seed=2))).name == row.name


@EACH
def test_a_variant_has_a_finite_loss_and_gradient(row):
    torch.manual_seed(0)
    flow = flow_for(row, Network(seed=1))
    method = make(row, fm.FlowMap(Network(seed=2)))
    assert sum(term.share for term in method.terms) == pytest.approx(1)
    for progress in (0.0, 0.5, 1.0):
        loss = method.loss(flow, randn(32, 3), progress=progress)
        weights = [weight for weight in flow.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(loss.value, weights, retain_graph=True)
        assert loss.value.isfinite() and all(one.isfinite().all() for one in gradients)
        assert any(one.abs().max() > 0 for one in gradients)


@EACH
def test_the_cost_of_a_variant_is_counted(row):
    network = Wide()
    flow, method = flow_for(row, network), make(row, fm.FlowMap(copy.deepcopy(network)))
    method.follow(flow)
    whole = as_the_post_counts(row, method)
    # a ratio of gradients adds a third of a pass
    assert passes(whole, flow, times=times_of(row), progress=0.5) == pytest.approx(row.cost, abs=0.06, rel=0.01)
    assert passes(method, flow, progress=0.5) == pytest.approx(row.shared, abs=0.06, rel=0.01)


@EACH
def test_a_variant_trains_in_a_folder_and_is_resumed(row, tmp_path):
    def run(**options):
        torch.manual_seed(3)
        flow = flow_for(row, fm.networks.MLP(2, width=8, depth=1, embedding=8))
        method = make(row, fm.exact.Gaussian([0.5, 0.0], [1.0, 0.5]))
        data = torch.randn(64, 2, generator=torch.Generator().manual_seed(5))
        settings = QUIET | {"out": tmp_path / "run", "checkpoint_every": 1, "steps": 3}
        return fm.train(flow, method, data, **settings, **options)

    for state in run():
        if state.step == 2:
            break
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["method"]["name"] == row.name and "unknown" not in json.dumps(config["method"])
    assert " at 0x" not in json.dumps(config)
    assert fm.load(tmp_path / "run").only_target == row.only_target
    assert [state.step for state in run(resume=True)] == [3]


@pytest.mark.parametrize("name", ["ct", "ict", "cd", "lcm", "ctm"])
def test_a_resumed_run_notices_another_grid(name, tmp_path):
    row = fm.methods.landscape.row_named(name)

    def run(grid, **options):
        flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8), only_target=row.only_target)
        teacher = {"teacher": fm.exact.Gaussian([0.5, 0.0], [1.0, 0.5])} if row.needs_teacher else {}
        method = row.build(**teacher, grid=grid)
        settings = QUIET | {"out": tmp_path / "run", "checkpoint_every": 1, "steps": 1}
        return fm.fit(flow, method, torch.zeros(64, 2), **settings, **options)

    run(edm_levels)
    with pytest.raises(ValueError, match="another configuration"):
        run(karras, resume=True)


# --- times


def test_the_grid_of_consistency_models_has_edms_ends():
    for name, points in (("cd_cifar10", 18), ("cd_imagenet64", 40)):
        (term,) = make(fm.methods.landscape.row_named(name), gaussian()).terms
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
    flat = make(fm.methods.landscape.row_named(name)).terms[0]
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
    (term,) = make(fm.methods.landscape.row_named(name), gaussian()).terms
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
    (term,) = make(fm.methods.landscape.row_named(name), gaussian()).terms
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


LEVELS = [row for row in VARIANTS if row.levels or row.name == "lcm_ddim50"]


@pytest.mark.parametrize("row", LEVELS, ids=lambda row: row.name)
def test_noise_levels_of_another_path_are_refused(row):
    path = PATHS["trigonometric"]
    flow = fm.FlowMap(Network(seed=1), path=path, only_source=row.only_source, only_target=row.only_target)
    with pytest.raises(ValueError, match=f"{row.name} has noise levels .*on Trigonometric.*: take {row.of}"):
        make(row, gaussian(path)).loss(flow, randn(16, 3))


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


# --- losses


def test_a_step_of_heun_in_the_noise_level_is_edms():
    """Against EDM's algorithm in its own variables, y = x/alpha and q = sigma/alpha, written apart."""
    g = gaussian()
    s, t = torch.tensor([[0.9], [0.5], [0.2]]).double(), torch.tensor([[0.8], [0.3], [0.19]]).double()
    x = randn(3, 3)

    def slope(y, q):  # (y - D(y))/q with the denoised data of a Gaussian
        level = q / (1 + q)
        return (y - g.denoise(y * (1 - level), level)) / q

    q, r = s / (1 - s), t / (1 - t)
    y = x / (1 - s)
    first = slope(y, q)
    second = slope(y + (r - q) * first, r)
    wanted = (1 - t) * (y + (r - q) * (first + second) / 2)
    torch.testing.assert_close(fm.steps.heun_in_sigma(g, x, s, t), wanted, rtol=1e-10, atol=1e-10)
    assert (fm.steps.heun(g, x, s, t) - wanted).abs().max() > 1e-4  # another solver
    euler = fm.steps.euler(g, x, s, 0 * t)
    torch.testing.assert_close(fm.steps.heun_in_sigma(g, x, s, 0 * t), euler)  # EDM's last step
    torch.testing.assert_close(fm.steps.heun_in_sigma(g, x, 1.0, 0.5), fm.steps.euler(g, x, 1.0, 0.5))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_heun_in_the_noise_level_is_of_second_order_on_every_path(path):
    g = gaussian(path)
    x = randn(6, 3)
    exact = g.flow_map(x, 0.8, 0.3)
    errors = []
    for count in (20, 40):
        step = fm.finite_steps.several(fm.steps.heun_in_sigma, count)
        errors.append((step(g, x, 0.8, 0.3) - exact).abs().max())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("name", ["cd_cifar10", "cd_imagenet64", "lcm_ddim50", "ctm_cifar10"])
def test_consistency_is_exact_at_the_exact_map_and_step(name):
    """With exact steps of the teacher nothing is left; with its solver the error of a step is; another map is seen."""
    g = gaussian()
    row = fm.methods.landscape.row_named(name)
    method = fm.Method(row.build(g, **({} if name == "lcm_ddim50" else {"compare": torch.sub})).terms[0])
    exact = fm.Method(method.terms[0].given(solver=fm.steps.jump))
    torch.manual_seed(1)
    x0, eps = g.sample(64, torch.Generator().manual_seed(2)), randn(64, 3)
    flow = fm.FlowMap(flow_of(g).network, only_target=row.only_target)
    assert exact.loss(flow, x0, noise=eps).terms["eulerian"].residual.abs().max() < 1e-10
    solved = method.loss(flow, x0, noise=eps).terms["eulerian"].residual.abs().max()
    assert 1e-6 < solved < 0.5
    wrong = fm.FlowMap(Network(seed=1), only_target=row.only_target)
    assert exact.loss(wrong, x0, noise=eps).terms["eulerian"].residual.abs().max() > 1e-2


@pytest.mark.parametrize("name", ["lmd_both_orders", "scd_linear"])
def test_residuals_with_a_teacher_vanish_at_the_exact_map(name):
    g = gaussian()
    row = fm.methods.landscape.row_named(name)
    torch.manual_seed(1)
    x0, eps = g.sample(64, torch.Generator().manual_seed(2)), randn(64, 3)
    for network, limit in ((flow_of(g).network, 1e-9), (Network(seed=1), None)):
        flow = fm.FlowMap(network, only_target=row.only_target)
        (term,) = make(row, g).loss(flow, x0, noise=eps, progress=0.5).terms.values()
        seen = term.residual.abs().max()
        assert seen < limit if limit else seen > 1e-2


def test_residuals_without_a_teacher_leave_the_noise_of_the_pair():
    """At the exact map: -grad F (u - v) in MeanFlow's line, -(u - v) in improved MeanFlow's (`test_truth`)."""
    g, n = gaussian(), 32
    s, t = times(n)
    s, t = torch.maximum(s, t), torch.minimum(s, t)
    x0 = g.sample(n, torch.Generator().manual_seed(2))
    eps = x0 + 0.3 * randn(n, 3)  # near couplings, so that all count
    x = g.path.interpolate(x0, eps, s)
    noise = g.path.velocity(x0, eps, s) - g.velocity(x, s)
    carried = jacobian_product(g, x, s[:, None], t[:, None], noise)
    for name, wanted in (
        ("meanflow_cifar10", -carried),
        ("rectified_meanflow_official", -carried),
        ("pixel_meanflow_official", -noise),
    ):
        loss = make(fm.methods.landscape.row_named(name)).loss(flow_of(g), x0, noise=eps, times=(s, t))
        torch.testing.assert_close(loss.terms["eulerian"].residual, wanted, rtol=1e-8, atol=1e-8)
        assert loss.terms["eulerian"].residual.abs().max() > 1e-2
    both = variants.fmm_square().loss(flow_of(g), x0, noise=eps, times=(s, t)).terms["compositional"].residual
    torch.testing.assert_close(both, torch.stack([-noise, 0 * noise], 1), rtol=1e-8, atol=1e-8)


def test_the_teacher_of_a_trajectory_model_goes_from_point_to_point():
    """`along_grid` visits the points between s and m, and a row that has arrived stays."""
    grid = edm_levels(5)
    visited = []

    def solver(flow, x, s, t):
        visited.append((s.flatten(), t.flatten()))
        return x + (t - s)

    s, m = grid[[5, 4]].reshape(2, 1), grid[[2, 3]].reshape(2, 1)
    end = fm.finite_steps.along_grid(solver, grid, 4)(None, s.clone(), s, m)
    torch.testing.assert_close(end, m)
    stops = torch.stack([t for _, t in visited])
    torch.testing.assert_close(stops[:, 0], grid[[4, 3, 2, 2]])
    torch.testing.assert_close(stops[:, 1], grid[[3, 3, 3, 3]])


def test_trajectory_models_go_down_as_many_points_as_are_drawn():
    g, grid = gaussian(), edm_levels(17)
    rule = variants.ctm_cifar10(g, compare=torch.sub).terms[0].rule
    s, t = grid[[10, 10, 10]].reshape(3, 1), grid[[2, 8, 2]].reshape(3, 1)
    count = torch.tensor([[1], [5], [5]])
    m = points_below(s, t, grid=grid, count=count)
    torch.testing.assert_close(m.flatten(), grid[[9, 8, 5]])  # not below t
    residual = rule(flow_of(g), fm.velocity.fixed(g)(None, _pair(3)), randn(3, 3), s, t, count=count, outer=flow_of(g))
    assert 0 < residual.abs().max() < 0.2  # the error of the solver


def _pair(n):
    return fm.velocity.Pair(randn(n, 3), randn(n, 3), fm.path.linear, {})


def test_edms_weight_in_units_of_velocity():
    """The weight (q^2 + 1/4)/(q/2)^2 of |D - x_0|^2, with D - x_0 = s (v - u) and q = s/(1 - s)."""
    s = torch.linspace(0.05, 0.95, 19).double()
    q = s / (1 - s)
    torch.testing.assert_close(edm_weight(s, s), (q**2 + 0.25) / (q / 2) ** 2 * s**2)


def test_targets_are_clamped():
    class Large(Network):
        def forward(self, x, s, t):
            return 9.0 + 0 * x + 0 * super().forward(x, s, t)

    x0, eps, _ = batch()
    flow = fm.FlowMap(Large())
    found = {}
    for name in ("alphaflow", "shortcut"):
        for build in (getattr(fm.methods, name), getattr(variants, f"{name}_official")):
            loss = build().loss(flow, x0, noise=eps, times=(0.8, 0.4), progress=0.6)
            found[build.__name__] = next(loss.terms[key] for key in ("eulerian", "compositional") if key in loss.terms)
    assert found["shortcut"].residual.abs().max() < 1e-9
    torch.testing.assert_close(found["shortcut_official"].residual, torch.full_like(x0, 5.0))  # 9 - 4
    a = fm.methods.shrinking_steps.sigmoid_fall()(0.6)
    torch.testing.assert_close(found["alphaflow_official"].residual, torch.full_like(x0, 5.0 / math.sqrt(a)))
    assert (found["alphaflow"].residual - found["alphaflow_official"].residual).abs().max() > 0.1
    late = variants.alphaflow_official().loss(flow, x0, noise=eps, times=(0.8, 0.4), progress=1.0)
    u = eps - x0
    torch.testing.assert_close(late.terms["eulerian"].residual, 9.0 - u)  # MeanFlow's target is not clamped


def test_the_state_between_two_jumps_is_clamped():
    seen = []

    class Fast:
        def average_velocity(self, x, s, t):
            seen.append(x)
            return torch.full_like(x, -50.0)

    x, s, t = torch.ones(2, 3).double(), torch.full((2, 1), 0.9).double(), torch.full((2, 1), 0.1).double()
    rule = variants.shortcut_official().terms[1].rule
    flow = fm.FlowMap(Network(seed=1))
    residual = rule(flow, Fast(), x, s, t, g=0.5)
    assert seen[0].max() == 1 and (seen[1] == 4).all()
    torch.testing.assert_close(residual, flow.average_velocity(x, s, t) + 4)


def test_pixel_meanflow_counts_its_distances_in_proportion():
    """0.4 and 0.1 of the first term's loss per row, each row of a distance divided by itself, for s < 0.8."""
    flow = fm.FlowMap(Network(seed=1))
    method = variants.pixel_meanflow_official(compare=absolute, convnext=lambda a, b: 3 * absolute(a, b))
    x0, eps, _ = batch(40)
    s = torch.linspace(0.1, 0.99, 40).double()
    loss = method.loss(flow, x0, noise=eps, times=(s, 0.5 * s))
    x = fm.path.linear.interpolate(x0, eps, s)
    distance = absolute(x - s[:, None] * flow.average_velocity(x, s, 0.5 * s), x0)[:, 0]
    first = sum(term.share for term in method.terms if term.name != "denoised_distances")
    for name, factor, scale in (("lpips", 0.4, 1), ("convnext", 0.1, 3)):
        value = scale * distance
        wanted = (factor * value / (value + 0.01) * (s < 0.8)).mean()
        share = method.terms[-1].share
        torch.testing.assert_close(share / first * loss.terms[name].value, wanted)
    assert 0 < (s < 0.8).double().mean() < 1


def test_pixel_meanflow_divides_by_at_least_its_least_time():
    x0, eps, _ = batch()
    flow = fm.FlowMap(Network(seed=1), fm.outputs.Endpoint(0.05))
    method = variants.pixel_meanflow_official(compare=absolute)
    loss = method.loss(flow, x0, noise=eps, times=(0.02, 0.02)).terms["diffusion"]
    x = 0.98 * x0 + 0.02 * eps
    s = torch.full((len(x0),), 0.02).double()
    field = Network(seed=1)(x, s, s)
    torch.testing.assert_close(loss.residual, (x - field) / 0.05 - (x - x0) / 0.05)


def test_physics_informed_distillation_by_the_difference_has_weight_t_squared():
    flow = fm.FlowMap(Network(seed=1), only_source=1.0)
    method = variants.pid_official(gaussian(), compare=torch.sub)
    grid = edm_levels(249)[torch.randint(1, 250, (12,), generator=torch.Generator().manual_seed(0))]
    x0, eps, _ = batch()
    loss = method.loss(flow, x0, noise=eps, times=(1.0, grid)).terms["lagrangian"]
    derivative = method.terms[0].rule.keywords["derivative"]
    plain = fm.methods.pid(gaussian(), derivative=derivative).loss(flow, x0, noise=eps, times=(1.0, grid))
    velocity = plain.terms["lagrangian"].residual
    torch.testing.assert_close(loss.value, (grid**2 * velocity.square().mean(1)).mean())


def test_soflow_on_cifar_is_its_finite_step_alone():
    method = variants.soflow_cifar10()
    assert [term.name for term in method.terms] == ["eulerian"]
    ratios = [method.terms[0].at(progress).rule.keywords["ratio"] for progress in (0.0, 0.5, 1.0)]
    assert ratios == pytest.approx([1.0, math.sqrt(3.125e-4), 3.125e-4])


# --- names


def test_variants_with_lpips_say_what_to_install():
    for row in VARIANTS:
        if "compare" in inspect.signature(row.build).parameters:
            with pytest.raises((ImportError, RuntimeError), match="perceptual|could not be downloaded"):
                make(row, gaussian(), compare=None)


def test_a_distance_of_features():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 3)
    compare = fm.perceptual.features(network, size=None)
    a, b = torch.rand(2, 5, 3, 8, 8)
    wanted = (network(a) - network(b)).flatten(1).square().mean(1, keepdim=True)
    torch.testing.assert_close(compare(a, b), wanted)
    assert not compare(a, a).any() and not any(weight.requires_grad for weight in [compare(a, b)])
    with pytest.raises(TypeError, match="needs a network"):
        fm.perceptual.features(3)


def test_a_name_of_a_variant_trains():
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8))
    state = fm.fit(flow, "meanflow_cifar10", torch.zeros(64, 2), steps=1, **QUIET)
    assert state.step == 1
    with pytest.raises(ValueError, match=r"pass fm.methods.variants.lmd_both_orders\(teacher=...\)"):
        fm.fit(flow, "lmd_both_orders", torch.zeros(64, 2), steps=1, **QUIET)
    with pytest.raises(ValueError, match="did you mean meanflow_cifar10"):
        fm.fit(flow, "meanflow_cifar", torch.zeros(64, 2), steps=1, **QUIET)


def test_the_shell_trains_distils_and_compares_variants(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--steps", "2", "--batch-size", "16", "--width", "8", "--depth", "1", "--trackers", "--no-progress-bar"]
    few += ["--sample-every", "0"]
    assert cli.main(["train", "two_moons", "--method", "alphaflow_official", "--out", "run", *few]) == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["method"]["name"] == "alphaflow_official"
    assert cli.main(["distill", "run", "--method", "lmd_both_orders", "--out", "student", *few[:4], *few[8:]]) == 0
    assert fm.load(tmp_path / "student").trained.up
    assert cli.main(["train", "two_moons", "--method", "soflow_cifar", "--out", "other", *few]) == 2
    assert "soflow_cifar10" in capsys.readouterr().err


def test_the_list_of_methods_names_the_variants(capsys):
    assert cli.main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(row.name in text for row in VARIANTS)
    assert cli.main(["explain", "shortcut_official"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "the code of the paper" in text and "clamped at 4" in text
    assert cli.main(["methods", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert names == [row.name for row in LANDSCAPE] + [row.name for row in VARIANTS]
