"""What the methods are to each other: the same gradient, the same residual, a limit."""

from functools import partial

import pytest
import torch

import flowmaps as fm
from flowmaps.consistency import eulerian, lagrangian
from flowmaps.derivative import detached, jvp, keep, stop, time_part
from flowmaps.finite_steps import eulerian_step, lagrangian_step
from flowmaps.method.term import from_noise
from flowmaps.outputs import Endpoint
from flowmaps.times.grids import below, karras
from flowmaps.velocity import conditional, fixed, own
from flowmaps.weight import by_interval, squared
from tests.methods import formulas
from tests.methods.formulas import mean_square, sg
from tests.methods.support import Network, batch, build
from tests.oracles import PATHS, flow_of, gaussian, randn, times

X0, EPS, (S, T) = batch()
s, t = S[:, None], T[:, None]
x, u = (1 - s) * X0 + s * EPS, EPS - X0
FLOW, TEACHER = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))


def gradient(value, flow=FLOW):
    grads = torch.autograd.grad(value, list(flow.parameters()), retain_graph=True, materialize_grads=True)
    return torch.cat([grad.flatten() for grad in grads])


def term_of(method, name, source=S, target=T, flow=FLOW):
    return method.loss(flow, X0, noise=EPS, times=(source, target)).terms[name]


def of_rule(rule, velocity=conditional, source=S, target=T, **options):
    """The loss of one rule in a method of its own."""
    method = fm.Method(fm.Term(rule, velocity, name="rule", **options))
    return term_of(method, "rule", source, target).value


def cosine(a, b):
    return torch.cosine_similarity(a, b, dim=0)


def orders(errors):
    return [torch.log2(a / b).item() for a, b in zip(errors, errors[1:], strict=False)]


def always(ratio):
    return lambda progress: ratio


# The Eulerian rule over finite steps


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_soflow_has_the_gradient_of_alphaflow(ratio):
    """SoFlow's loss is mean <V, sg[D]>, D = (F(x_m, m, t) - F(x_s, s, t))/(s - m); AlphaFlow's has twice its gradient,
    whatever the ratio."""
    m = s + ratio * (t - s)
    D = (FLOW(x + (m - s) * u, m, t) - FLOW(x, s, t)) / (s - m)
    published = gradient((FLOW.average_velocity(x, s, t) * sg(D)).mean())
    for name in ("soflow", "alphaflow"):
        found = gradient(term_of(build(name, ratio=always(ratio)), "eulerian").value)
        assert cosine(found, published) == pytest.approx(1.0, abs=1e-13)
        torch.testing.assert_close(found, 2 * published, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["soflow", "alphaflow"])
def test_finite_steps_go_to_meanflow_in_first_order(name):
    """The gradient's error halves with the ratio."""
    limit = gradient(term_of(build("meanflow"), "eulerian").value)
    found = [gradient(term_of(build(name, ratio=always(r)), "eulerian").value) for r in (0.02, 0.01, 0.005)]
    errors = [(g - limit).norm() / limit.norm() for g in found]
    assert orders(errors) == pytest.approx([1, 1], abs=0.03)
    assert errors[-1] < 5e-3 and cosine(found[-1], limit) > 1 - 1e-5


def test_half_a_step_along_the_jump_is_shortcut():
    """AlphaFlow at 1/2 with the flow's own jump to m for a velocity is the compositional rule by halves, over sqrt(2):
    [V - (V(x_s, s, m) + V(x_m, m, t))/2]/sqrt(1/2)."""
    m = (s + t) / 2

    class Jump:
        def velocity(self, y, r):
            return FLOW.average_velocity(y, r, m)

    residual = eulerian_step(FLOW, Jump(), x, s, t, ratio=0.5)
    by_halves = fm.consistency.compositional(FLOW, FLOW, x, s, t)
    torch.testing.assert_close(residual, by_halves * 2**0.5, rtol=1e-12, atol=1e-13)


def test_consistency_distillation_goes_to_the_semigradient_of_eulerian_distillation():
    """F(x_s, s, t) - F(x_m, m, t) = (s - m) dF/ds and dF/ds = -R, so the square over (s - m)(s - t) has the gradient
    2 R grad V: that of AYF-EMD, which is EMD's with its slope stopped."""
    limit = gradient(term_of(build("ayf_emd", TEACHER), "eulerian").value)
    stopped = gradient(term_of(build("emd", TEACHER, derivative=detached), "eulerian").value)
    torch.testing.assert_close(stopped, limit, rtol=1e-10, atol=1e-12)
    errors = []
    for step in (0.02, 0.01, 0.005):
        rule = partial(fm.finite_steps.same_endpoint, to=lambda a, b, e=step: a + e * (b - a))
        weight = by_interval(lambda a, b, e=step: 1 / (e * (a - b) ** 2))
        found = gradient(of_rule(rule, fixed(TEACHER), weight=weight))
        errors.append((found - limit).norm() / limit.norm())
    assert orders(errors) == pytest.approx([1, 1], abs=0.05) and errors[-1] < 0.01


def test_cd_on_finer_grids_goes_there_too():
    """CD itself, on EDM's grid, its target not yet behind the flow; s on the points of the coarsest grid."""
    coarse = karras(200)
    source, target = coarse[torch.linspace(60, 190, len(X0)).long()], torch.zeros_like(S)
    limit = gradient(term_of(build("ayf_emd", TEACHER), "eulerian", source, target).value)
    errors = []
    for points in (200, 400, 800):
        to = below(karras(points))
        weight = by_interval(lambda a, b, to=to: 1 / ((a - to(a, b)) * a))
        method = build("cd", TEACHER, points=points + 1, weight=weight)
        found = gradient(term_of(method, "eulerian", source, target).value)
        errors.append((found - limit).norm() / limit.norm())
    assert orders(errors) == pytest.approx([1, 1], abs=0.05) and errors[-1] < 0.01


def test_consistency_training_goes_to_meanflow_at_zero():
    """ECT's and iCT's step along the pair, without averages: MeanFlow's gradient at t = 0."""
    zero = torch.zeros_like(S)
    limit = gradient(term_of(build("meanflow"), "eulerian", S, zero).value)
    errors = []
    for step in (0.02, 0.01, 0.005):
        rule = partial(fm.finite_steps.same_endpoint, to=lambda a, b, e=step: a * (1 - e), solver=fm.steps.jump)
        weight = by_interval(lambda a, b, e=step: 1 / (e * a**2))
        errors.append((gradient(of_rule(rule, target=zero, weight=weight)) - limit).norm() / limit.norm())
    assert orders(errors) == pytest.approx([1, 1], abs=0.05)


# MeanFlow's relatives


def test_improved_meanflow_along_the_conditional_velocity_is_meanflow():
    """The identity that the paper starts from: with the same tangent both have one residual and one gradient."""
    mean = term_of(build("meanflow"), "eulerian")
    W = formulas.jvp(FLOW.average_velocity, (x, s, t), (u, 1.0, 0.0))
    improved = mean_square(W[0] + (s - t) * sg(W[1]) - u)
    torch.testing.assert_close(mean.value, improved)
    torch.testing.assert_close(gradient(mean.value), gradient(improved))
    same = of_rule(eulerian, sources={"along": conditional})
    torch.testing.assert_close(gradient(mean.value), gradient(same))
    otherwise = gradient(term_of(build("imf"), "eulerian").value)
    assert cosine(gradient(mean.value), otherwise) < 1 - 1e-6


def test_the_sign_of_improved_meanflow():
    """W = V + (s - t)(dV/ds + grad_x V . v) is v at the exact map; with (t - s), as printed in places, it is not."""
    g, (a, b) = gaussian(), (r[:, None] for r in times(24))
    y = randn(24, 3)
    v = g.velocity(y, a)
    V, slope = formulas.jvp(g.average_velocity, (y, a, b), (v, 1.0, 0.0))
    assert (V + (a - b) * slope - v).abs().max() < 1e-12
    assert (V + (b - a) * slope - v).abs().max() > 0.1
    found = fm.methods.imf(weight=squared).terms[1].rule(flow_of(g), g, y, a, b, along=g)
    torch.testing.assert_close(found, V + (a - b) * slope - v, rtol=1e-10, atol=1e-12)


def test_meanflow_of_a_teacher_is_align_your_flow():
    found = of_rule(eulerian, fixed(TEACHER))
    torch.testing.assert_close(gradient(found), gradient(term_of(build("ayf_emd", TEACHER), "eulerian").value))


def test_facm_relaxes_and_clamps_the_residual_of_meanflow_along_the_teacher():
    zero = torch.zeros_like(S)
    residual = formulas.jvp(FLOW.average_velocity, (x, s, 0 * t), (TEACHER.velocity(x, s), 1.0, 0.0))
    R = residual[0] - TEACHER.velocity(x, s) + s * residual[1]
    for relax, bound in ((0.5, 100.0), (1.0, 0.3)):
        found = term_of(build("facm", TEACHER, relax=relax, bound=bound), "eulerian", S, zero).residual
        torch.testing.assert_close(found, (1 - (1 - s) ** relax) * R.clamp(-bound, bound))
    assert (R.abs() > 0.3).any() and (R.abs() < 0.3).any()


def test_facm_without_relaxation_has_the_gradient_of_align_your_flow():
    """relax -> infinity is a(s) = 1."""
    zero = torch.zeros_like(S)
    found = term_of(build("facm", TEACHER, relax=1e4, bound=100.0), "eulerian", S, zero)
    same = term_of(build("ayf_emd", TEACHER), "eulerian", S, zero)
    torch.testing.assert_close(gradient(found.value), gradient(same.value))


def test_eulerian_self_distillation_is_the_eulerian_rule_with_the_gradient_of_its_part_in_time():
    """grad |R|^2 = 2 R (grad V - (t - s)(grad dV/ds + grad (grad_x V . w))): what ESD keeps of it, and what it leaves,
    make up the whole."""

    def space_part(f, inputs, tangents):
        value, in_space = jvp(f, inputs, (tangents[0], 0, 0))
        _, in_time = jvp(f, inputs, (0, *tangents[1:]))
        return value, in_space + stop(in_time)

    esd = term_of(build("esd"), "eulerian").value
    kept = {
        mode: of_rule(partial(eulerian, derivative=mode, slope=keep), own)
        for mode in (time_part(), jvp, detached, space_part)
    }
    for value in kept.values():
        torch.testing.assert_close(value, esd)
    in_time, whole, none, in_space = (gradient(value) for value in kept.values())
    torch.testing.assert_close(gradient(esd), in_time)
    torch.testing.assert_close(in_time + in_space, whole + none)
    assert min((in_time - other).norm() for other in (whole, none, in_space)) > 1e-3


def test_the_denoised_field_of_pixel_meanflow_is_ctms_decoder():
    """D = x - s V  <=>  F = (t/s) x + (1 - t/s) D."""
    flow = fm.FlowMap(Network(seed=1), Endpoint())
    D = flow.network(x, S, T)
    torch.testing.assert_close(x - s * flow.average_velocity(x, s, t), D)
    torch.testing.assert_close(flow(x, s, t), t / s * x + (1 - t / s) * D)
    # and of any average velocity
    torch.testing.assert_close(FLOW(x, s, t), t / s * x + (1 - t / s) * (x - s * FLOW.average_velocity(x, s, t)))


# Consistency models on TrigFlow


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_tangent_of_scm_is_the_derivative_of_the_jump(path):
    """g = cos(tau) df/dtau, f(tau) = F(x_s, s, 0)/rho_0 along the pair, by central differences of the exact map; the
    residual is -sqrt(cot tau) g."""
    g, n, h = gaussian(path), 24, 1e-5
    a, _ = times(n)
    x0, eps = g.sample(n, torch.Generator().manual_seed(2)), randn(n, 3)
    zero = torch.zeros(n, 1, dtype=torch.float64)

    def angle(r):
        return torch.atan2(path.sigma(r), path.alpha(r))[:, None]

    def end(r):
        return g.flow_map(path.interpolate(x0, eps, r), r[:, None], zero)

    tau = angle(a)
    slope = (end(a + h) - end(a - h)) / (angle(a + h) - angle(a - h))
    found = build("sct").loss(flow_of(g), x0, noise=eps, times=(a, zero)).terms["eulerian"].residual
    expected = -(torch.cos(tau) / torch.sin(tau)).sqrt() * torch.cos(tau) * slope
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


# Lagrangian methods from noise

ONE, STEPS = torch.ones_like(S), (0.02, 0.01, 0.005)


def from_one(method, name="lagrangian", flow=FLOW):
    return term_of(method, name, ONE, T, flow)


def test_boot_goes_to_align_your_flow_at_one_in_first_order():
    """Its residual is h/(1 - t) times the Lagrangian one, up to higher orders, and the gradient passes through V alone:
    so the square over h/(1 - t) has the gradient of AYF-LMD."""
    limit = gradient(from_one(build("ayf_lmd", TEACHER)).value)
    errors = []
    for h in STEPS:
        weight = by_interval(lambda a, b, h=h: (1 - b) / h)
        found = gradient(from_one(build("boot", TEACHER, step=h, weight=weight)).value)
        errors.append((found - limit).norm() / limit.norm())
    assert orders(errors) == pytest.approx([1, 1], abs=0.05) and errors[-1] < 0.05


def test_a_lagrangian_step_goes_there_from_every_source():
    """Over any gap, in both directions of time: the factor is h/|s - t|."""
    limit = gradient(of_rule(partial(lagrangian, derivative=detached, slope=stop), fixed(TEACHER)))
    errors = []
    for h in STEPS:
        weight = by_interval(lambda a, b, h=h: (a - b).abs() / h)
        found = gradient(of_rule(partial(lagrangian_step, step=h), fixed(TEACHER), weight=weight))
        errors.append((found - limit).norm() / limit.norm())
    assert orders(errors) == pytest.approx([1, 1], abs=0.05)


def test_the_signal_of_boot_is_the_noise_less_the_average_velocity():
    """y = (x_t - t eps)/(1 - t), x_t = F(eps, 1, t)."""
    y = (FLOW(EPS, 1.0, t) - t * EPS) / (1 - t)
    torch.testing.assert_close(y, EPS - FLOW.average_velocity(EPS, 1.0, t), rtol=1e-12, atol=1e-12)


def test_boots_step_of_the_signal_agrees_with_the_convex_form_to_second_order():
    """y(t) = y(m) + h lambda'(m) (D(x_m, m) - y(m)), lambda' = 1/(m (1 - m)), has 1/(1 - m) where the convex form has
    1/(1 - t)."""
    errors = []
    for h in STEPS:
        m = t + h
        V, x_m = FLOW.average_velocity(EPS, 1.0, m), FLOW(EPS, 1.0, m)
        y, D = EPS - V, x_m - m * TEACHER.velocity(x_m, m)
        after = y + h / (m * (1 - m)) * (D - y)
        signal = EPS - after  # the average velocity of that signal
        ours = FLOW.average_velocity(EPS, 1.0, t) - from_one(build("boot", TEACHER, step=h)).residual
        errors.append((signal - ours).norm())
    assert orders(errors) == pytest.approx([2, 2], abs=0.1)


def test_the_residual_of_pid_between_denoised_fields_is_t_times_ours():
    """(F - t dF/dt) - (F - t v(F, t)) = -t (dF/dt - v(F, t)). (In value: there F carries a gradient too.)"""
    h = 0.005
    V, neighbour = (FLOW.average_velocity(EPS, 1.0, r) for r in (t, t + h))
    F = EPS + (t - 1) * V
    dF = V + (t - 1) * (neighbour - V) / h
    theirs = (F - t * dF) - (F - t * TEACHER.velocity(F, t))
    ours = from_one(build("pid", TEACHER))
    torch.testing.assert_close(theirs, -t * ours.residual)
    weighted = from_one(build("pid", TEACHER, weight=by_interval(lambda a, b: b**2))).value
    torch.testing.assert_close(weighted, mean_square(theirs))


def test_pid_at_small_differences_is_lagrangian_distillation_with_its_target_stopped():
    limit = gradient(of_rule(lagrangian, fixed(TEACHER), ONE, start=from_noise))
    errors = []
    for h in STEPS:
        mode = fm.derivative.finite_difference(h, central=False)
        errors.append((gradient(from_one(build("pid", TEACHER, derivative=mode)).value) - limit).norm())
    assert orders(errors) == pytest.approx([1, 1], abs=0.1)


def test_the_prediction_of_freeflow_is_align_your_flow_at_one():
    flow = fm.FlowMap(Network(seed=1))
    method = build("freeflow", TEACHER, derivative=detached)
    found = gradient(from_one(method, flow=flow).value, flow)
    same = gradient(from_one(build("ayf_lmd", TEACHER), flow=flow).value, flow)
    torch.testing.assert_close(found, same)


def test_the_correction_of_freeflow_has_the_gradient_of_the_inner_product():
    """2 <V(eps, 1, 0), sg[w(x_r, r) - v(x_r, r)]>, averaged over rows and coordinates."""
    method = build("freeflow", TEACHER)
    method.follow(FLOW)
    w = method.auxiliaries[0].network
    w.load_state_dict(Network(seed=4).state_dict())
    torch.manual_seed(9)
    found = gradient(from_one(method, "correction").value)
    torch.manual_seed(9)
    V = FLOW.average_velocity(EPS, 1.0, 0.0)
    x_r = sg((1 - t) * (EPS - V) + t * torch.randn_like(EPS))
    product = (V * sg(w(x_r, T, T) - TEACHER.velocity(x_r, t))).mean()
    torch.testing.assert_close(found, 2 * gradient(product))


# Compositional methods


def test_shortcut_is_progressive_self_distillation_on_a_dyadic_grid():
    """The same residual and gradient at the same times, before the averaged weights fall behind."""
    torch.manual_seed(0)
    source, target = fm.times.dyadic(4)(len(X0), 0.0, X0)
    assert ((source - target) * 8).log2().frac().abs().max() == 0
    shortcut = term_of(build("shortcut"), "compositional", source, target)
    psd = term_of(build("psd", split=fm.consistency.midpoint), "compositional", source, target)
    torch.testing.assert_close(shortcut.residual, psd.residual)
    torch.testing.assert_close(gradient(shortcut.value), gradient(psd.value))


def test_progressive_distillation_is_the_step_of_ddim():
    """x by two DDIM steps of the teacher, x_r = (1 - r) D + r N with D = x - s v and N = x + (1 - s) v, is where the
    target velocity leads."""
    m = (s + t) / 2

    def ddim(y, a, b):
        v = TEACHER.velocity(y, a)
        return (1 - b) * (y - a * v) + b * (y + (1 - a) * v)

    residual = term_of(build("progressive_distillation", TEACHER), "compositional").residual
    target = FLOW.average_velocity(x, s, t) - residual
    torch.testing.assert_close(x + (t - s) * target, ddim(ddim(x, s, m), m, t))


def test_the_smallest_jump_of_mid_training_is_the_teachers_velocity():
    """(y_s - y_t)/(s - t) over one Euler step from noise."""
    source, target = torch.ones_like(S), torch.full_like(S, 15 / 16)
    noise = EPS[:1].expand_as(EPS)
    found = build("cmt", TEACHER).loss(FLOW, X0, noise=noise, times=(source, target)).terms["compositional"].residual
    expected = FLOW.average_velocity(noise, 1.0, 15 / 16) - TEACHER.velocity(noise, 1.0)
    torch.testing.assert_close(found, expected)
