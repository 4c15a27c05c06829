"""Which term of each formula receives a gradient: one table.

The network carries probes: parameters that are zero and enter at one place of the formula alone. With gap = s - t, and
a the gap, s0, t0 the times and x_s the states of the batch, a probe is multiplied by a function that

- value: is 1 at (s0, t0) with slope 0, and 0 on the diagonal and at half the gap,
- time: is 0 at (s0, t0), on the diagonal and at x_s, but has a slope in s and t there,
- space: the same with a slope in x,
- target: is 0 at (s0, t0) with slope 0, but not on the diagonal or at half the gap.
"""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import derivative
from tests.methods.support import CONSISTENCY_TERM, DISTILLED, Network, batch, build

X0, EPS, _ = batch()
S0, T0 = 0.8, 0.3
GAP = S0 - T0
X_S = (1 - S0) * X0 + S0 * EPS
PROBES = ("value", "time", "space", "target")


class Probed(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = Network(seed=1)
        self.probes = nn.ParameterDict({name: nn.Parameter(torch.zeros(()).double()) for name in PROBES})

    def forward(self, x, s, t):
        p, s_, t_ = self.probes, s[:, None], t[:, None]
        gap = s_ - t_
        value = gap**2 * (gap - GAP / 2) ** 2 * (4 - 24 * (gap - GAP) / GAP) / GAP**4
        target = (gap**2 - GAP**2) ** 2 / GAP**4
        time, space = ((s_ - S0) + (t_ - T0)) * gap, (x - X_S) * gap
        return self.base(x, s, t) + p["value"] * value + p["time"] * time + p["space"] * space + p["target"] * target


YES, NO = True, False
TABLE = {  # value, time, space, target
    "lmd": (YES, YES, NO, NO),
    "lsd": (YES, YES, NO, NO),
    "ayf_lmd": (YES, NO, NO, NO),
    "emd": (YES, YES, YES, NO),
    "esd": (YES, YES, NO, NO),
    "ayf_emd": (YES, NO, NO, NO),
    "meanflow": (YES, NO, NO, NO),
    "imf": (YES, NO, NO, NO),
    "shortcut": (YES, NO, NO, NO),
    "splitmeanflow": (YES, NO, NO, NO),
    "psd": (YES, NO, NO, NO),
    "pfmm": (YES, NO, NO, NO),
}
STOPPED = {  # other derivative modes than the method's own
    ("lsd", "detached"): (YES, NO, NO, NO),
    ("lsd", "separate"): (YES, NO, NO, NO),
    ("emd", "detached"): (YES, NO, NO, NO),
    ("esd", "jvp"): (YES, YES, YES, NO),
    ("meanflow", "jvp"): (YES, NO, NO, NO),
    ("imf", "jvp"): (YES, NO, NO, NO),
}


class Teacher:
    """Records whether gradients may pass through its input."""

    def __init__(self):
        self.flow = fm.FlowMap(Network(seed=2))
        self.differentiated = set()

    def velocity(self, x, t):
        self.differentiated.add(torch.is_grad_enabled() and x.requires_grad)
        return self.flow.velocity(x, t)


def received(name, **options):
    """Which probes got a gradient from the consistency term of a method."""
    flow = fm.FlowMap(Probed())
    method = build(name, fm.FlowMap(Network(seed=2)) if name in DISTILLED else None, **options)
    loss = method.loss(flow, X0, noise=EPS, times=(S0, T0))
    loss.terms[CONSISTENCY_TERM[name]].value.backward()
    return tuple(flow.network.probes[probe].grad.abs().item() > 1e-9 for probe in PROBES)


@pytest.mark.parametrize("name", TABLE)
def test_which_term_receives_a_gradient(name):
    assert received(name) == TABLE[name]


@pytest.mark.parametrize("name, mode", STOPPED)
def test_the_derivative_mode_decides_for_the_slope(name, mode):
    assert received(name, derivative=getattr(derivative, mode)) == STOPPED[name, mode]


def test_the_diffusion_term_trains_the_diagonal_alone():
    for name in ("flow_matching", "meanflow", "imf", "lsd", "esd", "psd", "shortcut"):
        flow = fm.FlowMap(Probed())
        build(name).loss(flow, X0, noise=EPS, times=(S0, T0)).terms["diffusion"].value.backward()
        assert [flow.network.probes[probe].grad.abs().item() > 1e-9 for probe in PROBES] == [NO, NO, NO, YES]


@pytest.mark.parametrize("name", DISTILLED)
def test_a_teacher_receives_no_gradient(name):
    flow, teacher = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    build(name, teacher).loss(flow, X0, noise=EPS, times=(S0, T0)).value.backward()
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(p.grad is not None for p in flow.parameters())


@pytest.mark.parametrize(
    "name, passes", [("lmd", YES), ("ayf_lmd", NO), ("emd", NO), ("ayf_emd", NO), ("splitmeanflow", NO)]
)
def test_gradients_pass_through_the_input_of_a_teacher_in_lmd_alone(name, passes):
    teacher = Teacher()
    build(name, teacher).loss(fm.FlowMap(Network(seed=1)), X0, noise=EPS, times=(S0, T0)).value.backward()
    assert teacher.differentiated == {passes}


def test_an_averaged_target_receives_no_gradient():
    flow, method = fm.FlowMap(Network(seed=1)), build("shortcut")
    method.loss(flow, X0, noise=EPS, times=(S0, T0)).value.backward()
    assert len(list(method.parameters())) == len(list(flow.parameters()))
    assert not any(p.requires_grad or p.grad is not None for p in method.parameters())


def test_frozen_weights_let_gradients_through_their_input():
    flow = fm.FlowMap(Network(seed=1))
    x = X0.clone().requires_grad_()
    fm.velocity.frozen(flow, None).velocity(x, 0.5).sum().backward()
    assert x.grad.abs().min() > 0 and all(p.grad is None for p in flow.parameters())
