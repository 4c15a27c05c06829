"""Every method at the exact flow map of a Gaussian of full covariance, on every path, in both directions of time."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps import derivative
from flowmaps.methods import LANDSCAPE
from flowmaps.methods.consistency_training import relative_step
from flowmaps.times.grids import below, karras
from tests.methods.support import STEP, build
from tests.oracles import PATHS, flow_of, gaussian, jacobian_product, randn, times

ROWS = {row.name: row for row in LANDSCAPE}
MODES = {
    "jvp": derivative.jvp,
    "detached": derivative.detached,
    "separate": derivative.separate,
    "functorch": derivative.functorch,
}
IN_MODES = [
    "lmd",
    "lsd",
    "ayf_lmd",
    "tvm",
    "pid",
    "freeflow",
    "emd",
    "esd",
    "ayf_emd",
    "facm",
    "meanflow",
    "imf",
    "alphaflow",
]
IN_MODES += ["dmf", "rectified_meanflow", "pixel_meanflow", "sct", "scd", "fmm"]
EXACT = {  # without the error of a finite difference or of a solver's step
    "freeflow": {"derivative": derivative.detached},
    "pid": {"derivative": derivative.jvp},
    "cd": {"solver": fm.steps.jump},
    "lcm": {"solver": fm.steps.jump},
    "ctm": {"solver": fm.steps.jump},
    "cmt": {"solver": fm.steps.jump},
}
FROM_PAIRS = [row.name for row in LANDSCAPE if not row.needs_teacher]
N = 32


def case(name, path, seed=1):
    """The exact flow, its distribution, data, noise, and times that the method knows."""
    g, row = gaussian(path), ROWS[name]
    s, t = times(N, seed)
    if name == "lcm":
        s = (20 * s).ceil() / 20  # on the grid
    if name == "cmt":
        s, t = torch.full_like(s, 0.75), torch.full_like(s, 0.25)
    if row.only_target == 0.0:
        s, t = torch.maximum(s, t), torch.zeros_like(t)
    if row.only_source == 1.0:
        s = torch.ones_like(s)
    x0 = g.sample(N, torch.Generator().manual_seed(2))
    return flow_of(g), g, x0, randn(N, 3), s, t


def losses(name, path, progress=0.0, **options):
    flow, g, x0, eps, s, t = case(name, path)
    method = build(name, g, **options)
    return method.loss(flow, x0, noise=eps, times=(s, t), progress=progress).terms


def expected(name, term, path):
    """What is left of the residual at the truth: nothing where velocities are marginal ones; otherwise what their noise
    u - v makes of it, worked out from the exact map."""
    _, g, x0, eps, s, t = case(name, path)
    x, source, target = path.interpolate(x0, eps, s), s[:, None], t[:, None]
    u = path.velocity(x0, eps, s)
    noise = u - g.velocity(x, s)
    carried = jacobian_product(g, x, source, target, noise)
    if term == "diffusion" and name in FROM_PAIRS:
        return -noise
    if term == "eulerian":
        if name in ("meanflow", "dmf", "rectified_meanflow"):
            return -carried
        if name in ("imf", "pixel_meanflow"):
            return -noise
        if name in ("soflow", "alphaflow"):
            m = source + STEP * (target - source)
            difference = g.flow_map(x, source, target) - g.flow_map(x + (m - source) * u, m, target)
            return difference / (target - source) / math.sqrt(STEP)
        if name in ("ct", "ict", "ect"):
            points = {"ct": 1, "ict": 10}
            to = relative_step(2.0) if name == "ect" else below(karras(points[name]))
            m = to(source, target)
            return g.flow_map(x, source, target) - g.flow_map(path.interpolate(x0, eps, m), m, target)
        if name == "sct":
            tau = torch.atan2(path.sigma(source), path.alpha(source))
            turning = torch.func.jvp(lambda r: torch.atan2(path.sigma(r), path.alpha(r)), (source,), (source * 0 + 1,))
            return -(torch.cos(tau) / torch.sin(tau)).sqrt() * torch.cos(tau) * carried / turning[1]
    if name == "fmm":
        return torch.stack([-noise, 0 * noise], 1)
    return 0 * noise


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("name", ROWS)
def test_residuals_vanish_at_the_exact_map(name, path):
    # the last phase of progressive methods: the flow, exact here, is its own teacher
    progress = 0.99 if name == "progressive_distillation" else 0.0
    found = losses(name, path, progress, **EXACT.get(name, {}))
    for term, seen in found.items():
        if term == "auxiliary":
            continue  # noised again: its residual is the noise of a fresh pair
        if name == "boot":
            assert seen.residual.abs().max() < 0.1  # a finite step: see its order below
        else:
            assert (seen.residual - expected(name, term, path)).abs().max() < 1e-10, term


def test_pfmm_in_a_later_phase_has_the_flow_for_a_teacher():
    found = losses("pfmm", PATHS["linear"], 0.99, phases=3)
    assert found["compositional"].residual.abs().max() < 1e-10


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", IN_MODES)
def test_in_every_derivative_mode(name, mode):
    options = {"ratio": lambda progress: 0.0} if name == "alphaflow" else {}
    path = PATHS["trigonometric"]
    for term, seen in losses(name, path, derivative=MODES[mode], **options).items():
        wanted = expected("meanflow" if name == "alphaflow" else name, term, path)
        if term != "auxiliary":
            assert (seen.residual - wanted).abs().max() < 1e-10, term


@pytest.mark.parametrize("central, order", [(True, 2), (False, 1)])
@pytest.mark.parametrize("name", IN_MODES)
def test_finite_differences_at_their_order(name, central, order):
    errors = []
    for h in (2e-3, 1e-3):
        difference = derivative.finite_difference(h, central)
        mode = derivative.time_part(difference, difference) if name == "esd" else difference
        options = {"ratio": lambda progress: 0.0} if name == "alphaflow" else {}
        found = losses(name, PATHS["linear"], derivative=mode, **options)
        term = next(name for name in ("lagrangian", "eulerian", "compositional") if name in found)
        wanted = expected("meanflow" if name == "alphaflow" else name, term, PATHS["linear"])
        errors.append((found[term].residual - wanted).abs().max())
    assert torch.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    "name, option, sizes, order",
    [
        ("boot", "step", (0.02, 0.01), 2),
        ("lcm", "points", (100, 200), 2),  # the same rule as in cd
    ],
)
def test_finite_steps_at_their_order(name, option, sizes, order):
    """With the teacher's true velocity, the residual of an Euler step falls like its size to this power."""
    sizes_of = []
    for size in sizes:
        (seen,) = losses(name, PATHS["linear"], **{option: size}).values()
        sizes_of.append(seen.residual.square().mean().sqrt())
    assert torch.log2(sizes_of[0] / sizes_of[1]) == pytest.approx(order, abs=0.2)


def test_two_stages_of_heun_gain_an_order():
    errors = [
        losses("lcm", PATHS["linear"], points=points, solver=fm.steps.heun)["eulerian"].residual.square().mean().sqrt()
        for points in (50, 100)
    ]
    assert torch.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.25)


@pytest.mark.parametrize("name", ["ayf_emd", "ayf_lmd"])
@pytest.mark.parametrize("progress, r", [(0.0, 0.0), (0.05, 0.5), (0.5, 0.99)])
def test_warm_up_pulls_towards_the_velocity(name, progress, r):
    """At the truth r times the slope leaves (1 - r) (V - v), with v at x_s or, in the Lagrangian rule, at the end."""
    g, n = gaussian(), 24
    flow, (s, t), x0, eps = flow_of(g), times(n), g.sample(n), randn(n, 3)
    method = getattr(fm.methods, name)(g, warm_up=0.1, largest=0.99)
    loss = method.loss(flow, x0, noise=eps, times=(s, t), progress=progress)
    x = g.path.interpolate(x0, eps, s)
    v = g.velocity(x, s) if name == "ayf_emd" else g.velocity(g.flow_map(x, s, t), t)
    (term,) = loss.terms.values()
    torch.testing.assert_close(term.residual, (1 - r) * (g.average_velocity(x, s, t) - v), rtol=1e-9, atol=1e-9)
