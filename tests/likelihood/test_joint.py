"""Joint maps of state and log-density: every rule holds at the exact (V, D), and no other head is taken for it."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

import flowmaps as fm
from flowmaps import consistency, likelihood, velocity
from flowmaps.derivative import finite_difference
from flowmaps.methods import LANDSCAPE
from flowmaps.methods.joint_terms import OF_CHANGE, JointRule
from flowmaps.velocity.joint import Packed, packed, unpacked
from tests.beds import bed_a
from tests.likelihood.joint_maps import (
    LAW,
    SCALE,
    GaussianHead,
    Instant,
    MixtureHead,
    Scaled,
    gaussian_map,
    mixture_map,
    trained_head,
)
from tests.oracles import PATHS, gaussian, randn, times

DIFFERENCE = finite_difference(1e-4)
RULES = {
    "diffusion": consistency.diffusion,
    "compositional": consistency.compositional,
    "lagrangian": partial(consistency.lagrangian, derivative=DIFFERENCE),
    "eulerian": partial(consistency.eulerian, derivative=DIFFERENCE),
    "cycle": consistency.cycle,
}
EACH_RULE = pytest.mark.parametrize("name", RULES)


def residuals(flow, name, teacher=None, n=40):
    """The residuals of a rule at the joint state of the mixture, of the state and of the divergence."""
    s, t = times(n)
    x = LAW.path.interpolate(LAW.sample(n, torch.Generator().manual_seed(0)), randn(n, 1), s)
    rule = JointRule(RULES[name], "state", likelihood.exact(chunk=1))
    found = rule(flow, flow if teacher is None else teacher, x, s[:, None], t[:, None])
    return found["state"].abs().max(), found[f"state{OF_CHANGE}"].abs().max()


@EACH_RULE
def test_every_rule_is_zero_at_the_exact_joint_map(name):
    for teacher in (None, *(() if name == "compositional" else (LAW,))):
        state, change = residuals(mixture_map(), name, teacher)
        assert state < 1e-6 and change < 1e-6


@pytest.mark.parametrize("name", ["lagrangian", "eulerian"])
def test_the_rest_is_the_error_of_the_difference(name, monkeypatch):
    """It falls as the square of the step."""
    found = []
    for h in (2e-3, 1e-3):
        rule = {"lagrangian": consistency.lagrangian, "eulerian": consistency.eulerian}[name]
        monkeypatch.setitem(RULES, name, partial(rule, derivative=finite_difference(h)))
        found.append(residuals(mixture_map(), name)[1])
    assert found[0] / found[1] == pytest.approx(4, rel=0.1)


@EACH_RULE
@pytest.mark.parametrize(
    "head", [Scaled(MixtureHead(), -1.0), Scaled(MixtureHead(), 1.1), Instant(MixtureHead())], ids=["sign", "size", "t"]
)
def test_no_other_head_has_a_zero_residual(name, head):
    """The exact law is the teacher, except in the rules about jumps of the map itself. A head of the wrong size is
    consistent with itself, so those two rules cannot see it; nor does the diffusion rule see other times.
    """
    blind = {"compositional", "cycle"} if isinstance(head, Scaled) else {"diffusion"}
    state, change = residuals(mixture_map(head), name, None if name in ("compositional", "cycle") else LAW)
    assert (change < 1e-6) if name in blind else (change > 0.02)
    assert state < 1e-6


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_packed_map_is_the_flow_map_with_its_divergence(path):
    """F of a packed row, and the change of its log-density, for a Gaussian on each path."""
    flow, law = gaussian_map(path=path)
    s, t = times(30)
    x = path.interpolate(law.sample(30), randn(30, 3), s)
    y = Packed(flow, (3,))(packed(x, randn(30, 1)), s, t)
    moved, change = unpacked(y, (3,))
    expected = law.flow_map(x, s, t)
    torch.testing.assert_close(moved, expected)
    difference = torch.stack(
        [law.log_prob(expected[i : i + 1], t[i]) - law.log_prob(x[i : i + 1], s[i]) for i in range(30)]
    )
    torch.testing.assert_close(SCALE * (change - randn(30, 1)), difference)


def test_nothing_depends_on_the_log_density():
    """So that data and noise can have l = 0."""
    flow, _ = gaussian_map()
    s, t = times(8)
    x, view = randn(8, 3), Packed(flow, (3,))
    a, b = (view.average_velocity(packed(x, change), s, t) for change in (None, 100 + randn(8, 1)))
    assert torch.equal(a, b)


BIASED = {"pid", "boot", "soflow", "alphaflow", "ayf_lmd", "ayf_emd", "cd", "lcm", "progressive_distillation"}
"""Methods of finite steps or with a warm-up, whose residual of the state is not zero at the truth either."""
MIXING = {"freeflow", "ctm", "facm", "sct", "scd", "cmt", "fmm"}
"""Methods that compare whole states."""
PARTIAL = {"ct", "ict", "ect"}
"""Methods that learn from pairs and have no velocity, so that they need one whose divergence they learn."""


def joint_of(row, law, exact):
    """The joint form of a method of the landscape; the exact joint map is the teacher of jumps."""
    teacher = exact if row.name in ("pfmm", "splitmeanflow") else law
    made = row.build(teacher) if row.needs_teacher else row.build()
    options = {"teacher": law} if row.name in PARTIAL else {}
    return fm.methods.f2d2(made, divergence=likelihood.exact(chunk=1), **options)


@pytest.mark.parametrize("row", [row for row in LANDSCAPE if row.name not in MIXING], ids=lambda row: row.name)
def test_every_method_that_applies_is_zero_at_the_exact_divergence(row):
    """D of a Gaussian does not depend on x, so that the conditional velocity leaves no noise in its residual."""
    torch.manual_seed(0)
    flow, law = gaussian_map(only_source=row.only_source, only_target=row.only_target)
    wrong, _ = gaussian_map(Scaled(GaussianHead(law), -1.0), only_source=row.only_source, only_target=row.only_target)
    size = {}
    for kind, one in (("exact", flow), ("wrong", wrong)):
        method = joint_of(row, law, gaussian_map()[0])
        method.follow(one)
        progress = 0.0 if row.name == "progressive_distillation" else 0.5  # later the map is its own teacher
        terms = method.loss(one, law.sample(64), progress=progress).terms
        size[kind] = max(float(term.residual.abs().max()) for name, term in terms.items() if name.endswith(OF_CHANGE))
        assert any(name.endswith(OF_CHANGE) for name in terms)
    if row.name not in BIASED | PARTIAL:
        assert size["exact"] < 1e-6
    assert size["wrong"] > 0.03 and size["wrong"] > 3 * size["exact"]


@pytest.mark.parametrize("name", sorted(MIXING))
def test_methods_that_compare_whole_states_are_refused(name):
    row = next(row for row in LANDSCAPE if row.name == name)
    with pytest.raises(ValueError, match="compares whole states, and no joint map follows from it"):
        fm.methods.f2d2(row.build(gaussian()) if row.needs_teacher else row.build())


@pytest.mark.parametrize("name", ["lsd", "imf", "esd", "psd", "meanflow", "alphaflow", "tvm"])
def test_the_losses_of_the_state_stay_as_they_are(name):
    """The joint method has the method's own residuals, to the last bits, on the same pairs."""
    torch.manual_seed(0)
    flow = trained_head(fm.FlowMap(fm.networks.MLP(3, width=16, depth=1)).double(), randn(50, 3))
    torch.nn.init.normal_(flow.network.network.output.weight, std=0.1)
    build, x0, noise = getattr(fm.methods, name), randn(32, 3), randn(32, 3, seed=1)
    found, fixed = [], {"g": torch.full((32, 1), 0.3).double()}
    for method in (build(), fm.methods.f2d2(build())):
        torch.manual_seed(1)
        method.follow(flow)
        drawn = method.draw(flow, x0, noise=noise, times=(0.7, 0.2), progress=0.5)
        pairs = [replace(one, numbers={**one.numbers, **(fixed if "g" in one.numbers else {})}) for one in drawn]
        found.append(method.measure(flow, pairs, 0.5).terms)
    plain, joint = found
    for term, loss in plain.items():
        torch.testing.assert_close(joint[term].residual, loss.residual, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(joint[term].value, loss.value, rtol=1e-12, atol=1e-12)
    assert len(joint) == 2 * len(plain)


def test_a_guided_conditional_velocity_is_refused():
    """It is right on average alone, and so is its divergence, which nobody knows."""
    flow = trained_head(fm.FlowMap(fm.networks.MLP(3, width=8, depth=1, classes=2)).double(), randn(50, 3))
    method = fm.guidance.guided(fm.methods.f2d2(fm.methods.imf), fm.guidance.imf(null={"label": 2}, scale=2.0))
    with pytest.raises(ValueError, match="joint training knows no divergence of the velocity"):
        method.loss(flow, randn(32, 3), torch.arange(32) % 2)


def test_a_conditional_velocity_leaves_its_own_noise_and_no_more():
    """MeanFlow's residual of D at the truth is -(t - s) grad_x D . (u - v), which is zero on average."""
    flow, n = mixture_map(), 40
    s, t = times(n)
    x0, eps = LAW.sample(n, torch.Generator().manual_seed(0)), randn(n, 1)
    x = LAW.path.interpolate(x0, eps, s)
    pair = velocity.Pair(x0, eps, LAW.path, {})
    rule = JointRule(RULES["eulerian"], "state", likelihood.exact(chunk=1))
    teacher = velocity.conditional(flow, pair)
    found = rule(flow, teacher, x, s[:, None], t[:, None])[f"state{OF_CHANGE}"]
    noise, h = teacher.velocity(x, s[:, None]) - LAW.velocity(x, s), 1e-4
    head = MixtureHead()
    slope = (head(x + h, s, t) - head(x - h, s, t)) / (2 * h)
    torch.testing.assert_close(found, (t - s)[:, None] * slope * noise, rtol=1e-3, atol=1e-3)


def test_hutchinson_in_training_has_the_mean_of_the_exact_divergence():
    """The random signs of a step are drawn with the rows; their mean is the divergence at 4 standard errors."""
    law = gaussian()
    flow, _ = gaussian_map()
    n = 20_000
    x0 = law.sample(n, torch.Generator().manual_seed(0))
    teacher = fm.methods.f2d2(fm.methods.flow_matching())
    torch.manual_seed(0)
    found = teacher.loss(flow, x0, times=(0.4, 0.4)).terms[f"diffusion{OF_CHANGE}"].residual
    assert 0.01 < found.std() and abs(found.mean()) < 4 * found.std() / n**0.5


def test_the_head_of_the_other_direction_is_wrong_in_the_plane_too():
    """Three Gaussians: asked for the step towards the data, exact values err by 0.37 nats at 8 jumps, and by 0 else."""
    law = bed_a().law
    x = law.sample(200, torch.Generator().manual_seed(0)).double()
    exact, right, wrong = law.log_prob(x), 0.0, 0.0

    def mean_divergence(x, s, t):
        return (law.log_prob(x, s) - law.log_prob(law.flow_map(x, s, t), t)) / (t - s)

    for k in range(8):
        s, t = k / 8, (k + 1) / 8
        right = right + mean_divergence(x, s, t) / 8
        wrong = wrong + (mean_divergence(x, s, s - 1 / 8) if k else mean_divergence(x, t, s)) / 8
        x = law.flow_map(x, s, t)
    noise = -0.5 * x.square().sum(1) - math.log(2 * math.pi)
    assert (noise + right - exact).abs().mean() < 1e-6
    assert (noise + wrong - exact).abs().mean() == pytest.approx(0.37, abs=0.05)
