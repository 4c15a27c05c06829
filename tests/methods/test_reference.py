"""Value and gradient of every method against its formula, written out in `formulas` with torch.func.jvp and detach."""

import pytest
import torch

import flowmaps as fm
from flowmaps.velocity import Auxiliary, Averaged, Phased
from flowmaps.weight import Learned
from tests.methods import formulas
from tests.methods.formulas import REFERENCES, Problem, edm_grid, even_grid, mean_square, sg, shares
from tests.methods.support import ROWS, STEP, Network, batch, build

X0, EPS, (S, T) = batch()
GRIDS = {"ct": edm_grid(1), "cd": edm_grid(17), "ctm": edm_grid(17), "ict": edm_grid(10), "lcm": even_grid(50)}


def times_for(name, points=16):
    """(s, t) that the method knows: both directions of time where it does, every other source on its grid."""
    if name == "cmt":
        i = points - torch.arange(len(S)) % points  # every group of rows starts at s = 1
        return i.to(S.dtype) / points, (i // 3).to(S.dtype) / points
    s, t = S.clone(), T.clone()
    if name in GRIDS:
        s, t = torch.maximum(s, t), torch.minimum(s, t)
        inner = torch.tensor(GRIDS[name][1:-1] or [0.5], dtype=s.dtype)  # ct starts with the ends of time alone
        on_grid = inner[torch.arange(len(s)) % len(inner)]
        s = torch.where((torch.arange(len(s)) % 2 == 0) & (on_grid > t), on_grid, s)
    if ROWS[name].only_target == 0.0 or name == "facm":
        t = torch.zeros_like(t)
    if ROWS[name].only_source == 1.0:
        s = torch.ones_like(s)
    return s, t


def maps_for(name):
    """The flow and the teacher as the papers have them: sCM's path and output, a denoised field for pixel MeanFlow."""
    nets = Network(seed=1), Network(seed=2)
    trigonometric = {"path": fm.path.trigonometric} if name in ("sct", "scd") else {}
    output = {"sct": fm.Rotation(), "scd": fm.Rotation(), "pixel_meanflow": fm.Endpoint()}
    limits = {"only_target": ROWS[name].only_target, "only_source": ROWS[name].only_source}
    flow = fm.FlowMap(nets[0], output.get(name, fm.flow_map.average_velocity), **trigonometric, **limits)
    return flow, fm.FlowMap(nets[1], **trigonometric)


def function_of(network, name=""):
    if name == "pixel_meanflow":
        return lambda y, a, b: (y - network(y, a[:, 0], b[:, 0])) / a
    return lambda y, a, b: network(y, a[:, 0], b[:, 0])


def apart(method, flow, progress):
    """Give what has weights beside the flow weights of its own. Returns the auxiliary network and the log-variance."""
    method.follow(flow, progress)
    auxiliary, log_variance = None, None
    for part in method.modules():
        if isinstance(part, Averaged | Phased):
            part.network.load_state_dict(Network(seed=3).state_dict())
        if isinstance(part, Auxiliary):
            auxiliary = part.network
            auxiliary.load_state_dict(Network(seed=4).state_dict())
        if isinstance(part, Learned):
            torch.manual_seed(5)
            log_variance = part.double().log_variance
            torch.nn.init.normal_(part.linear.weight)
    return auxiliary, log_variance


def drawn(draw, columns):
    torch.manual_seed(9)
    return draw(len(X0), columns, dtype=X0.dtype)


def compare(name, make, formula, progress=0.0, points=16, values=True):
    """Value and gradients, those of what is learned beside the flow included, of a method and of its formula."""
    flow, teacher = maps_for(name)
    method = make(teacher)
    auxiliary, log_variance = apart(method, flow, progress)
    s, t = times_for(name, points)
    torch.manual_seed(9)
    loss = method.loss(flow, X0, noise=EPS, times=(s, t), progress=progress).value
    V, W = function_of(flow.network, name), function_of(teacher.network)
    A, B = function_of(Network(seed=3)), function_of(auxiliary)
    draws = drawn(torch.rand, 1), drawn(torch.randn, X0.shape[1])
    expected = formula(Problem(V, W, A, B, log_variance, X0, EPS, s[:, None], t[:, None], *draws))
    if values:
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    weights = [weight for weight in (*flow.parameters(), *method.parameters()) if weight.requires_grad]
    found, wanted = (torch.autograd.grad(value, weights, materialize_grads=True) for value in (loss, expected))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", REFERENCES)
def test_value_and_gradient_are_those_of_the_formula(name):
    compare(name, lambda teacher: build(name, teacher), REFERENCES[name])


def test_every_row_of_the_landscape_has_a_reference():
    assert set(REFERENCES) == set(ROWS)


def steps_of(solver, count):
    def several(W, y, a, b):
        for k in range(count):
            y = solver(W, y, a + (b - a) * k / count, a + (b - a) * (k + 1) / count)
        return y

    return several


HALF, QUARTER, DONE = 0.5, 0.25, 0.999
VARIANTS = {  # name: method, options, progress, formula
    "psd by halves": (
        "psd",
        {"split": fm.consistency.midpoint},
        0.0,
        lambda p: shares(0.75, formulas.diffusion(p, p.u), formulas.compositional(p, p.V, 0.5)),
    ),
    "pfmm by chance": (
        "pfmm",
        {"split": fm.consistency.uniform},
        0.0,
        lambda p: formulas.compositional(p, p.W, p.g),
    ),
    "pfmm, last phase": ("pfmm", {"phases": 3}, DONE, lambda p: formulas.compositional(p, p.A, 0.5)),
    "progressive_distillation, last phase": (
        "progressive_distillation",
        {},
        DONE,
        lambda p: formulas.compositional(p, p.A, 0.5),
    ),
    "alphaflow at first": (
        "alphaflow",
        {"ratio": lambda progress: 1.0},
        0.0,
        lambda p: shares(0.25, formulas.diffusion(p, p.u), mean_square(p.V_st - p.u)),
    ),
    "alphaflow at last": (
        "alphaflow",
        {"ratio": lambda progress: 0.0},
        0.0,
        lambda p: shares(0.25, formulas.diffusion(p, p.u), formulas.meanflow(p)),
    ),
    # ceil(sqrt(1/4 (151^2 - 2^2) + 2^2) - 1) + 1
    "ct on a grown grid": (
        "ct",
        {},
        QUARTER,
        lambda p: formulas.consistency_training(p, formulas.below(p, edm_grid(75)), p.A),
    ),
    "ict on a grown grid": ("ict", {}, HALF, lambda p: formulas.ict(p, 160)),
    "ict on its last grid": ("ict", {}, DONE, lambda p: formulas.ict(p, 1280)),
    "ect in its fifth stage": ("ect", {}, HALF, lambda p: formulas.ect(p, 4)),
    "cd by Heun": (
        "cd",
        {"solver": fm.steps.heun},
        0.0,
        lambda p: formulas.consistency_distillation(p, edm_grid(17), formulas.heun),
    ),
    "ctm by three steps of Heun": (
        "ctm",
        {"solver": fm.finite_steps.several(fm.steps.heun, 3)},
        0.0,
        lambda p: formulas.ctm(p, edm_grid(17), steps_of(formulas.heun, 3)),
    ),
    "pid between denoised fields": (
        "pid",
        {"compare": lambda a, b: (a - b).abs(), "weight": fm.weight.plain},
        0.0,
        formulas.pid_between_denoised_fields,
    ),
    "facm, clamped": (
        "facm",
        {"bound": 0.2},
        0.0,
        lambda p: mean_square(formulas.facm_residual(p, 0.2)) + formulas.facm_anchor(p),
    ),
    "sct, normalised": ("sct", {"c": 0.1}, 0.0, lambda p: formulas.scm(p, formulas.along_the_pair, c=0.1)),
    "scd, normalised": ("scd", {"c": 0.1}, 0.0, lambda p: formulas.scm(p, formulas.along_the_teacher, c=0.1)),
    "sct, warming up": (
        "sct",
        {"c": 0.1, "warm_up": 0.5},
        QUARTER,
        lambda p: formulas.scm(p, formulas.along_the_pair, c=0.1, r=0.5),
    ),
    "ayf_emd, warming up": (
        "ayf_emd",
        {"warm_up": 0.5},
        QUARTER,
        lambda p: formulas.eulerian(p, p.v, p.v, ramp=0.5),
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_their_formulas(variant):
    name, options, progress, formula = VARIANTS[variant]
    compare(name, lambda teacher: build(name, teacher, **options), formula, progress)


def test_mid_training_on_several_trajectories():
    compare("cmt", lambda teacher: build("cmt", teacher, points=5), lambda p: formulas.mid_training(p, 5), points=5)


def sums(residual):
    return (residual**2).sum(1)


def means(residual):
    return (residual**2).mean(1)


def adaptive(size, power, c):
    """sg[1/(size + c)^power] size, averaged over rows."""
    return lambda residual: (size(residual) / (sg(size(residual)) + c) ** power).mean()


def huber(c):
    """sqrt(|r|^2 + c^2 D) - c sqrt(D)."""
    return lambda residual: (sums(residual)[:, None] + c**2 * 3).sqrt() - c * 3**0.5


def alphaflow_weight(a, c=1e-3):
    """sg[a/(m + c)] m with m the mean of D^2, as in the paper's code; `alphaflow` divides by a already."""
    return lambda D: (a**2 / (sg(means(D)) + c) * means(D)).mean()


def facm_weighted(p):
    e = means(formulas.facm_residual(p))
    return (torch.sin(torch.pi / 2 * p.s[:, 0]) * e / (sg(e) + 1e-3) ** 0.5).mean() + formulas.facm_anchor(p)


def meanflow_weighted(p, share, measure, rule=formulas.meanflow):
    return shares(share, formulas.diffusion(p, p.u, measure), rule(p, measure))


def soflow_weighted(p, power, c, r):
    """1/(mean square + c)^power, of D and of the diffusion residual."""
    measure = adaptive(means, power, c)
    return shares(0.75, formulas.diffusion(p, p.u, measure), formulas.soflow(p, r, measure))


def cauchy(p, a, b):
    """log(exp(-w) mean |r|^2 + 1) + w/2."""
    w = p.w(a[:, 0], b[:, 0])
    return lambda residual: (torch.log(torch.exp(-w) * means(residual) + 1) + w / 2).mean()


def dmf_weighted(p):
    on_diagonal = formulas.diffusion(p, p.u, cauchy(p, p.s, p.s))
    return shares(0.5, on_diagonal, formulas.meanflow(p, cauchy(p, p.s, p.t)))


def scm_weighted(p, along, r):
    """exp(-w)/D cot(tau) |N - sg[N + g/(|g| + 0.1)]|^2 + w."""
    tau, residual = formulas.scm_parts(p, along, c=0.1, r=r)
    w = p.w(p.s[:, 0], p.t[:, 0])
    return (torch.exp(-w) / 3 / torch.tan(tau[:, 0]) * sums(residual) + w).mean()


WEIGHTS = {  # name: method, options, progress, formula
    "meanflow": ("meanflow", {}, 0.0, lambda p: meanflow_weighted(p, 0.75, adaptive(sums, 1, 1e-2))),
    "imf": (
        "imf",
        {},
        0.0,
        lambda p: meanflow_weighted(p, 0.5, adaptive(sums, 1, 1e-2), formulas.improved_meanflow),
    ),
    "rectified_meanflow": (
        "rectified_meanflow",
        {},
        0.0,
        lambda p: meanflow_weighted(p, 0.75, adaptive(means, 0.5, 1e-2)),
    ),
    "alphaflow": (
        "alphaflow",
        {"ratio": lambda progress: STEP},
        0.0,
        lambda p: shares(
            0.25,
            formulas.diffusion(p, p.u, adaptive(means, 1, 1e-3)),
            formulas.alphaflow(p, STEP, alphaflow_weight(STEP)),
        ),
    ),
    "soflow": ("soflow", {"ratio": lambda progress: STEP}, 0.0, lambda p: soflow_weighted(p, 1, 1e-2, STEP)),
    "soflow on CIFAR": (
        "soflow",
        {"ratio": lambda progress: STEP, "power": 0.75, "c": 1e-3},
        0.0,
        lambda p: soflow_weighted(p, 0.75, 1e-3, STEP),
    ),
    "soflow's schedule": ("soflow", {}, HALF, lambda p: soflow_weighted(p, 1, 1e-2, 0.1 * (0.002 / 0.1) ** 0.5)),
    "facm": ("facm", {}, 0.0, facm_weighted),
    "dmf": ("dmf", {}, 0.0, dmf_weighted),
    "sct": ("sct", {}, 0.05, lambda p: scm_weighted(p, formulas.along_the_pair, 0.5)),
    "scd": ("scd", {}, HALF, lambda p: scm_weighted(p, formulas.along_the_teacher, 1.0)),
    "pixel_meanflow with a perceptual distance": (
        "pixel_meanflow",
        {"compare": lambda a, b: (a - b).abs()},
        0.0,
        lambda p: shares(
            0.8,
            meanflow_weighted(p, 0.5, adaptive(sums, 1, 1e-2), formulas.improved_meanflow),
            ((p.s < 0.8) * (p.x - p.s * p.V_st - p.x0).abs()).mean(),
        ),
    ),
    "ict": ("ict", {}, 0.0, lambda p: formulas.ict(p, 10, huber(0.00054))),
    "ect": ("ect", {}, HALF, lambda p: formulas.ect(p, 4, lambda r: sums(r)[:, None].sqrt())),
    "lcm": (
        "lcm",
        {},
        0.0,
        lambda p: formulas.consistency_distillation(
            p, even_grid(50), measure=lambda r: ((r**2 + 1e-6).sqrt() - 1e-3).mean()
        ),
    ),
}


def of_defaults(name, **options):
    """A function teacher -> method, with the weights that it has by itself."""
    given = (lambda teacher: {"teacher": teacher}) if ROWS[name].needs_teacher else (lambda teacher: {})
    return lambda teacher: ROWS[name].build(**given(teacher), **options)


@pytest.mark.parametrize("case", WEIGHTS)
def test_the_weights_of_the_papers(case):
    name, options, progress, formula = WEIGHTS[case]
    compare(name, of_defaults(name, **options), formula, progress)


def tangent_normalised(tangent, c=0.1):
    """|V - sg[V] + g/(|g| + c)|^2, summed over coordinates, for the residual V - ... = g."""
    g = sg(tangent)
    return sums(tangent - g + g / (g.norm(dim=1, keepdim=True) + c)).mean()


@pytest.mark.parametrize("progress, ramp", [(0.0, 0.0), (0.05, 0.5), (HALF, 0.99)])
def test_align_your_flow_normalises_its_tangent(progress, ramp):
    """Its gradient is that of the paper's loss."""
    compare(
        "ayf_emd",
        of_defaults("ayf_emd"),
        lambda p: formulas.eulerian(p, p.v, p.v, ramp=ramp, measure=tangent_normalised),
        progress,
        values=False,
    )


@pytest.mark.parametrize("name, progress", [("ayf_emd", 0.95), ("ctm", 0.0)])
def test_adversarial_losses(name, progress):
    """softplus(D(x_0) - D(x)) for the flow; softplus(D(x) - D(x_0)) + 0.05 (|grad D(x_0)|^2 + |grad D(x)|^2) for D, x =
    F(eps, 1, 0)."""
    torch.manual_seed(7)
    D = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Softplus(), torch.nn.Linear(8, 1)).double()
    flow, teacher = maps_for(name)
    method = of_defaults(name, discriminator=D)(teacher)
    terms = method.loss(flow, X0, noise=EPS, times=(1.0, 0.0), progress=progress).terms
    x = flow(EPS, 1.0, 0.0)
    ahead = (D(x) - D(X0)).squeeze(1)
    for_flow = torch.log1p(torch.exp(-ahead)).mean()

    def slope(at):
        return torch.func.vmap(torch.func.grad(lambda y: D(y).sum()))(at.detach()).square().sum(1)

    against = torch.log1p(torch.exp((D(sg(x)) - D(X0)).squeeze(1)))
    for_judge = (against + 0.05 * (slope(X0) + slope(x))).mean()
    for value, expected, network in (
        (terms["adversarial"].value, for_flow, flow),
        (terms["discriminator"].value, for_judge, D),
    ):
        torch.testing.assert_close(value, expected)
        weights = list(network.parameters())
        found, wanted = (
            torch.autograd.grad(v, weights, materialize_grads=True, retain_graph=True) for v in (value, expected)
        )
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["ict", "ect"])
def test_the_noise_levels_of_consistency_training_are_log_normal(name):
    """P(log sigma < -1.1 + 2 z) = Phi(z), log sigma ~ N(-1.1, 2^2), within four standard errors and a step of the
    grid."""
    torch.manual_seed(0)
    count = 20_000
    (term,) = (term.at(DONE) for term in build(name).terms)
    s, t = term.times(count, DONE, X0)
    assert (t == 0).all()
    for z in (-1.0, 0.0, 1.0):
        share, wanted = (torch.logit(s) < -1.1 + 2 * z).double().mean(), torch.special.ndtr(torch.tensor(z)).item()
        assert abs(share - wanted) < 4 * (wanted * (1 - wanted) / count) ** 0.5 + 0.005
