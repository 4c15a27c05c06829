"""Which part of each formula receives a gradient: the landscape says it of every method (`Row.gradient_of`).

The network carries probes: parameters that are zero and enter at one place of the formula alone. With gap = s - t, and
a the gap, s0, t0 the times and x_s the states of the batch, a probe is multiplied by a function that

- value: is 1 at (s0, t0) with slope 0, and 0 on the diagonal and at half the gap,
- time: is 0 at (s0, t0), on the diagonal and at x_s, but has a slope in s and t there,
- space: the same with a slope in x,
- diagonal: is 0 at (s0, t0) with slope 0, but not on the diagonal or at half the gap.

At the other end of a finite step none of them is zero, so `value` alone says that this end is stopped.
"""

import re

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import derivative
from tests.methods.support import ROWS, Network, batch, build

X0, EPS, _ = batch()
EPS = EPS[:1].expand_as(EPS)  # one trajectory, for the method that follows them
DISTILLED = [name for name, row in ROWS.items() if row.needs_teacher]
PROBES = ("value", "time", "space", "diagonal")


def times_of(name):
    """(s0, t0) that the method knows."""
    row = ROWS[name]
    from_noise = row.only_source == 1.0 or name == "cmt"
    return 1.0 if from_noise else 0.8, 0.0 if row.only_target == 0.0 else 0.25 if name == "cmt" else 0.3


class Probed(nn.Module):
    def __init__(self, s0, t0):
        super().__init__()
        self.base = Network(seed=1)
        self.s0, self.t0, self.x_s = s0, t0, (1 - s0) * X0 + s0 * EPS
        self.probes = nn.ParameterDict({name: nn.Parameter(torch.zeros(()).double()) for name in PROBES})

    def forward(self, x, s, t):
        p, s_, t_, GAP = self.probes, s[:, None], t[:, None], self.s0 - self.t0
        gap = s_ - t_
        value = gap**2 * (gap - GAP / 2) ** 2 * (4 - 24 * (gap - GAP) / GAP) / GAP**4
        diagonal = (gap**2 - GAP**2) ** 2 / GAP**4
        time, space = ((s_ - self.s0) + (t_ - self.t0)) * gap, (x - self.x_s) * gap
        found = {"value": value, "time": time, "space": space, "diagonal": diagonal}
        return self.base(x, s, t) + sum(p[name] * found[name] for name in PROBES)


YES, NO = True, False
STOPPED = {  # other derivative modes than the method's own
    ("lsd", "detached"): (YES, NO, NO, NO),
    ("lsd", "separate"): (YES, NO, NO, NO),
    ("tvm", "detached"): (YES, NO, NO, NO),
    ("pid", "detached"): (YES, NO, NO, NO),
    ("freeflow", "jvp"): (YES, NO, NO, NO),
    ("emd", "detached"): (YES, NO, NO, NO),
    ("esd", "jvp"): (YES, YES, YES, NO),
    ("meanflow", "jvp"): (YES, NO, NO, NO),
    ("imf", "jvp"): (YES, NO, NO, NO),
    ("facm", "jvp"): (YES, NO, NO, NO),
    ("sct", "jvp"): (YES, NO, NO, NO),
}
PROBED_WITH = {  # a finite difference of finite step sees the probes of its other end
    "pid": {"derivative": derivative.jvp},
}


def received(name, **options):
    """Which probes got a gradient from the consistency term of a method."""
    flow = fm.FlowMap(Probed(*times_of(name)))
    method = build(name, fm.FlowMap(Network(seed=2)), **options)
    loss = method.loss(flow, X0, noise=EPS, times=times_of(name))
    loss.terms[ROWS[name].rule].value.backward()
    return tuple(flow.network.probes[probe].grad.abs().item() > 1e-9 for probe in PROBES)


@pytest.mark.parametrize("name", ROWS)
def test_which_term_receives_a_gradient(name):
    said = tuple(probe in ROWS[name].gradient_of for probe in PROBES)
    assert received(name, **PROBED_WITH.get(name, {})) == said


@pytest.mark.parametrize("name, mode", STOPPED)
def test_the_derivative_mode_decides_for_the_slope(name, mode):
    assert received(name, derivative=getattr(derivative, mode)) == STOPPED[name, mode]


HAS_DIAGONAL = [
    name for name in ROWS if "diffusion" in [term.name for term in build(name, fm.exact.Gaussian(0.0)).terms]
]


@pytest.mark.parametrize("name", HAS_DIAGONAL)
def test_the_diffusion_term_trains_the_diagonal_alone(name):
    flow = fm.FlowMap(Probed(*times_of(name)))
    teacher = fm.FlowMap(Network(seed=2))
    build(name, teacher).loss(flow, X0, noise=EPS, times=times_of(name)).terms["diffusion"].value.backward()
    assert [flow.network.probes[probe].grad.abs().item() > 1e-9 for probe in PROBES] == [NO, NO, NO, YES]


class Teacher:
    """Records whether gradients may pass through its input."""

    def __init__(self):
        self.flow = fm.FlowMap(Network(seed=2))
        self.differentiated = set()

    def velocity(self, x, t):
        self.differentiated.add(torch.is_grad_enabled() and x.requires_grad)
        return self.flow.velocity(x, t)


@pytest.mark.parametrize("name", DISTILLED)
def test_a_teacher_receives_no_gradient(name):
    flow, teacher = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    build(name, teacher).loss(flow, X0, noise=EPS, times=times_of(name)).value.backward()
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(p.grad is not None for p in flow.parameters())


@pytest.mark.parametrize("name", DISTILLED)
def test_gradients_pass_through_the_input_of_a_teacher_where_the_row_says_so(name):
    teacher = Teacher()
    build(name, teacher).loss(fm.FlowMap(Network(seed=1)), X0, noise=EPS, times=times_of(name)).value.backward()
    assert teacher.differentiated == {"teacher" in ROWS[name].gradient_of}
    assert ("teacher" in ROWS[name].gradient_of) == ("teacher" in ROWS[name].gradient)


def built(name):
    return build(name, fm.FlowMap(Network(seed=2)))


WITH_TARGET = [name for name in ROWS if any(isinstance(part, fm.velocity.Averaged) for part in built(name).modules())]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_where_a_target_is_averaged(name):
    said = re.search(r"averaged|[VF]\*\(", f"{ROWS[name].notes} {ROWS[name].equation}")
    assert (name in WITH_TARGET) == bool(said)


@pytest.mark.parametrize("name", WITH_TARGET)
def test_an_averaged_target_receives_no_gradient(name):
    flow, method = fm.FlowMap(Network(seed=1)), built(name)
    method.loss(flow, X0, noise=EPS, times=times_of(name)).value.backward()
    assert len(list(method.parameters())) == len(list(flow.parameters()))
    assert not any(p.requires_grad or p.grad is not None for p in method.parameters())


@pytest.mark.parametrize("name", ["pfmm", "progressive_distillation"])
def test_the_teacher_of_a_later_phase_receives_no_gradient(name):
    options = {"phases": 3} if name == "pfmm" else {}
    flow, method = fm.FlowMap(Network(seed=1)), build(name, fm.FlowMap(Network(seed=2)), **options)
    method.loss(flow, X0, noise=EPS, times=times_of(name), progress=0.99).value.backward()
    assert len(list(method.parameters())) == len(list(flow.parameters()))
    assert not any(p.requires_grad or p.grad is not None for p in method.parameters())


def test_in_ctm_the_gradient_passes_through_the_outer_jump():
    """d loss / d V(x_s, s, t) = 2/(B D) (t - s) (dF'/dx)^T r: the outer jump's Jacobian stands in it."""
    flow, method = fm.FlowMap(Network(seed=1)), built("ctm")
    x = 0.2 * X0 + 0.8 * EPS
    V = flow.average_velocity(x, 0.8, 0.3).detach().requires_grad_()
    seen = {}

    class Given(nn.Module):
        """The flow with its answer at (0.8, 0.3) replaced by V, the first time it is asked for it."""

        def __init__(self):
            super().__init__()
            self.network = flow.network

        def forward(self, y, s, t):
            first = not seen and torch.is_grad_enabled() and bool((s == 0.8).all()) and bool((t == 0.3).all())
            return seen.setdefault("V", V) if first else self.network(y, s, t)

    loss = method.loss(fm.FlowMap(Given()), X0, noise=EPS, times=(0.8, 0.3)).terms["eulerian"]
    (found,) = torch.autograd.grad(loss.value, V)
    outer = torch.func.vmap(torch.func.jacrev(lambda y: flow(y[None], 0.3, 0.0)[0]))((x - 0.5 * V).detach())
    expected = 2 / V.numel() * -0.5 * torch.einsum("bij,bi->bj", outer, loss.residual.detach())
    torch.testing.assert_close(found, expected)


def test_frozen_weights_let_gradients_through_their_input():
    flow = fm.FlowMap(Network(seed=1))
    x = X0.clone().requires_grad_()
    fm.velocity.frozen(flow, None).velocity(x, 0.5).sum().backward()
    assert x.grad.abs().min() > 0 and all(p.grad is None for p in flow.parameters())


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.Softplus(), nn.Linear(16, 1)).double()

    def forward(self, x):
        return self.layers(x)


def received_by(value, *modules):
    """For each module: whether this value gives its weights a gradient."""
    found = []
    for module in modules:
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        grads = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True) if weights else ()
        found.append(any(grad is not None and bool((grad != 0).any()) for grad in grads))
    return tuple(found)


def test_each_loss_of_freeflow_reaches_its_own_network():
    flow, teacher = fm.FlowMap(Network(seed=1), only_source=1.0), fm.FlowMap(Network(seed=2))
    method = build("freeflow", teacher)
    auxiliary = method.auxiliaries[0]
    auxiliary.network.load_state_dict(Network(seed=4).state_dict())  # as the teacher it would correct nothing
    terms = method.loss(flow, X0).terms
    networks = flow, auxiliary, teacher
    assert received_by(terms["lagrangian"].value, *networks) == (YES, NO, NO)
    assert received_by(terms["correction"].value, *networks) == (YES, NO, NO)
    assert received_by(terms["auxiliary"].value, *networks) == (NO, YES, NO)


@pytest.mark.parametrize("name, progress", [("ayf_emd", 0.95), ("ctm", 0.0)])
def test_each_adversarial_loss_reaches_its_own_network(name, progress):
    flow, teacher, judge = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2)), Judge()
    method = build(name, teacher, discriminator=judge)
    loss = method.loss(flow, X0, progress=progress)
    targets = [part for part in method.modules() if isinstance(part, fm.velocity.Averaged)]
    networks = flow, judge, teacher, *targets
    rest = (NO,) * (1 + len(targets))
    assert [part.network for part in method.auxiliaries] == [judge]
    assert received_by(loss.terms["eulerian"].value, *networks) == (YES, NO, *rest)
    assert received_by(loss.terms["adversarial"].value, *networks) == (YES, NO, *rest)
    assert received_by(loss.terms["discriminator"].value, *networks) == (NO, YES, *rest)


def test_the_denoising_term_of_ctm_is_held_to_the_first_by_the_gradients_of_the_last_layer():
    flow, method = fm.FlowMap(Network(seed=1)), build("ctm", fm.FlowMap(Network(seed=2)), denoising=0.5)
    loss = method.loss(flow, X0)
    last = flow.network.outer.weight
    first, second = (
        torch.autograd.grad(loss.terms[name].value, last, retain_graph=True)[0] for name in ("eulerian", "diffusion")
    )
    (whole,) = torch.autograd.grad(loss.value, last)
    factor = (first.norm() / second.norm()).item()
    assert 0 < factor < 10
    torch.testing.assert_close(whole, 0.5 * first + 0.5 * factor * second, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["alphaflow", "soflow"])
def test_the_gradient_of_a_shrinking_step_does_not_grow(name):
    """Under the default weights its norm stays near the one of a whole step while the step shrinks, and never above."""
    x0, eps, _ = batch()
    s = torch.linspace(0.4, 1, len(x0)).double()
    flow, norms = fm.FlowMap(Network(seed=1)), {}
    for ratio in (1.0, 0.5, 0.1, 0.02, 0.006):
        method = getattr(fm.methods, name)(ratio=lambda progress, ratio=ratio: ratio)
        term = method.loss(flow, x0, noise=eps, times=(s, s / 3)).terms["eulerian"]
        parts = torch.autograd.grad(term.value, list(flow.parameters()), allow_unused=True)
        norms[ratio] = float(torch.cat([g.flatten() for g in parts if g is not None]).norm())
    assert max(norms.values()) < 2 * norms[1.0], norms
