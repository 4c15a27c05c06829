"""The losses of the papers' own settings, against closed forms and formulas written apart."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.methods import variants
from flowmaps.methods.variants.trajectories import dpm_solver, edm_weight, log_levels
from flowmaps.times.grids import edm_levels, points_below
from tests.methods.support import Network, absolute, batch, made
from tests.oracles import PATHS, flow_of, gaussian, jacobian_product, randn, times


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
        (term,) = made(row, g).loss(flow, x0, noise=eps, progress=0.5).terms.values()
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
        loss = made(fm.methods.landscape.row_named(name)).loss(flow_of(g), x0, noise=eps, times=(s, t))
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
    first = sum(term.share for term in method.terms if term.name != "distances")
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


def test_the_solver_of_mid_training_is_of_second_order():
    """DPM-Solver++(2M) against the exact flow map of a Gaussian; its first step is DDIM's."""
    g, errors = gaussian(), []
    x = randn(6, 3)
    for points in (40, 80):
        grid = log_levels(points, 0.05, 20.0)
        states = dpm_solver(g, x, grid)
        exact = torch.stack([g.flow_map(x, grid[-1].item(), t) for t in grid.tolist()])
        assert torch.equal(states[-1], x)
        errors.append((states - exact).abs().max())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.25)
    torch.testing.assert_close(states[-2], fm.steps.euler(g, x, grid[-1].item(), grid[-2].item()))


def test_mid_training_starts_at_noisy_data_and_compares_the_ends():
    g = gaussian()
    x0, eps, _ = batch(24)
    residuals = []
    for points in (8, 24):
        method = variants.cmt_cifar10(g, points=points, compare=torch.sub)
        (term,) = method.terms
        grid = log_levels(points)
        s = grid[1:].repeat(24 // points)
        loss = method.loss(fm.FlowMap(flow_of(g).network, only_target=0.0), x0, noise=eps, times=(s, 0.0))
        residuals.append(loss.terms["compositional"].residual.abs().max())
        start = term.start(None, fm.velocity.Pair(x0, eps, fm.path.linear, {}), s)
        torch.testing.assert_close(start, x0 / 81 + 80 / 81 * eps)
        # one trajectory for each group, from its first rows
        rule = term.rule
        states = dpm_solver(g, start[: 24 // points], grid)
        which = torch.arange(24) % (24 // points)
        index = (s[:, None] - grid).abs().argmin(1)
        flow = fm.FlowMap(Network(seed=1))
        wanted = flow(states[index, which], s, 0.0) - states[0, which]
        found = rule(flow, g, start, s[:, None], torch.zeros(24, 1).double())
        torch.testing.assert_close(found, wanted)
    assert residuals[1] < residuals[0] / 3 and residuals[1] < 0.1  # the error of the solver at the exact map
    far = method.loss(fm.FlowMap(Network(seed=1), only_target=0.0), x0, noise=eps, times=(s, 0.0))
    assert far.terms["compositional"].residual.abs().max() > 0.3


def test_the_weights_are_the_codes():
    r, zero = randn(5, 3), torch.zeros(5).double()
    total, mean = r.square().sum(1), r.square().mean(1)
    for term in variants.meanflow_cifar10().terms:
        torch.testing.assert_close(term.weight(r, zero, zero), total / (total + 1e-3) ** 0.75)
    ratio = math.sqrt(3.125e-4)
    (term,) = variants.soflow_cifar10().now(0.5)
    # the residual is sqrt(ratio) D, and the weight of the mean square of D is 1/(m + c)^p
    torch.testing.assert_close(term.weight(math.sqrt(ratio) * r, zero, zero), ratio * mean / (mean + 1e-3) ** 0.75)
    (term,) = variants.lcm_ddim50(gaussian()).terms
    torch.testing.assert_close(term.weight(r, zero, zero), mean)


@pytest.mark.parametrize(("name", "decay"), [("cd_cifar10", 0.0), ("cd_imagenet64", 0.95)])
def test_consistency_distillation_has_the_codes_solver_and_average(name, decay):
    (term,) = getattr(variants, name)(gaussian(), compare=absolute).terms
    assert term.rule.keywords["solver"] is fm.steps.heun_in_sigma and term.rule.keywords["compare"] is absolute
    assert term.sources["jumps"].decay == decay
