"""The public names, called as a user would call them."""

import ast
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import flowmaps as fm

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8}
NAMES = (  # in the post's order
    "flow_matching "
    "lmd lsd ayf_lmd tvm freeflow pid boot "
    "ct cd ctm emd esd ayf_emd soflow facm meanflow imf "
    "alphaflow dmf rectified_meanflow pixel_meanflow ict ect sct scd lcm cmt "
    "shortcut splitmeanflow psd fmm pfmm progressive_distillation"
).split()
DISTILLATION = set(
    "lmd ayf_lmd freeflow pid boot cd ctm emd ayf_emd facm scd lcm cmt "
    "splitmeanflow pfmm progressive_distillation".split()
)
TO_DATA = set("ct cd facm ict ect sct scd lcm".split())
FROM_NOISE = {"freeflow", "pid", "boot"}
RULES = {"diffusion", "lagrangian", "eulerian", "compositional"}
PARTS = {"auxiliary", "correction", "anchor", "direction"}
PUBLIC = {
    "balance": "residual_ratio gradient_ratio",
    "consistency": "diffusion compositional lagrangian eulerian midpoint uniform two_jumps",
    "derivative": "jvp detached separate finite_difference difference_to functorch time_part keep stop rewound",
    "draws": "normal uniform whole_numbers Rows",
    "finite_steps": "eulerian_step lagrangian_step same_endpoint same_endpoint_seen_at_data several along_grid",
    "grids": "karras edm_levels ddim_levels uniform_grid on on_pairs diagonal_on below points_below neighbour",
    "look": "denoise jump field widened moments glass posterior renoise",
    "rewards": "Linear Likelihood label decoded scaled mask blur downsample",
    "steering": (
        "value tilt exact_tilt tilted corrected recurred descended particles best_of langevin full stopped free "
        "clipped normalised dps universal tds fmtt cm_solver fmrg meta_flow_map diamond weighted_diamond variational"
    ),
    "steps": "jump euler heun heun_in_sigma ode ancestral sde restart gamma",
    "times": (
        "uniform_triangle uniform_diagonal logit_normal_pairs logit_normal_diagonal gap gap_logit_normal angle_normal "
        "logit_normal_below at_most "
        "after_u_shape strip doubling_strip doubling_steps dyadic grid from_noise to_data with_diagonal mixture "
        "growing_gap both_directions phase_of"
    ),
    "velocity": (
        "Auxiliary Discriminator Phased Pair averaged by_velocity conditional fixed frozen own is_conditional"
    ),
    "weight": (
        "squared summed plain root adaptive normalised huber cauchy by_interval learned learned_cauchy Learned "
        "gaussian_likelihood cauchy_likelihood"
    ),
}

SHARED = {
    "Likelihood": "the reward of a measurement, and the options of the command of this name",
    "Linear": "the path of flow matching, and the reward c . x0, each in its own namespace",
    "Block": "the residual block of an MLP and of a DiT, each private to its network",
    "FlowMapPipeline": "the class of an exported folder, with components of its own or of a pipeline of diffusers",
}
"""Class names that stand for two classes, and why."""


class Mine(nn.Module):
    """A network of somebody else's, with a label that it may be told."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
        self.labels = nn.Embedding(3, 2)

    def forward(self, x, s, t, label=None):
        value = self.layers(torch.cat([x, s[:, None], t[:, None]], 1))
        return value if label is None else value + self.labels(label)


@pytest.fixture
def flow():
    torch.manual_seed(0)
    return fm.FlowMap(Mine())


def batch():
    torch.manual_seed(1)
    return torch.randn(8, 2), torch.arange(8) % 3


def test_a_flow_map_is_four_functions_and_a_condition(flow):
    x, label = batch()
    for s, t in ((1.0, 0.25), (torch.tensor(0.5), 1), (torch.rand(8), torch.rand(8, 1))):
        V = flow.average_velocity(x, s, t)
        gap = fm.path.expand(t, x) - fm.path.expand(s, x)
        torch.testing.assert_close(flow(x, s, t), x + gap * V)
    assert torch.equal(flow.velocity(x, 0.5), flow.average_velocity(x, 0.5, 0.5))
    torch.testing.assert_close(flow.denoise(x, 0.5), x - 0.5 * flow.velocity(x, 0.5))
    told = flow.given(label=label)
    torch.testing.assert_close(told(x, 1.0, 0.0), flow(x, 1.0, 0.0) - flow.network.labels(label))


def teacher():
    return fm.exact.GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [0.3, 0.5])


def built(name):
    build = getattr(fm.methods, name)
    return build(teacher=teacher()) if name in DISTILLATION else build()


def test_names_are_there():
    assert all(hasattr(fm, name) for name in fm.__all__) and len(set(fm.__all__)) == len(fm.__all__)
    for module, names in PUBLIC.items():
        assert module in fm.__all__ and all(hasattr(getattr(fm, module), name) for name in names.split())
    with pytest.raises(AttributeError, match="module 'flowmaps' has no attribute 'flow_maps'"):
        fm.flow_maps  # noqa: B018


def test_no_two_classes_share_a_name():
    homes = defaultdict(list)
    for path in Path(fm.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path))
    assert {name for name, found in homes.items() if len(found) > 1} == SHARED.keys(), homes


@pytest.mark.parametrize("name", NAMES)
def test_every_method_gives_a_loss_with_terms(flow, name):
    method, (x0, label) = built(name), batch()
    with torch.no_grad():
        assert method.loss(flow, x0).value.isfinite()
    noise = torch.randn_like(x0)
    s = torch.full((8,), 1.0 if name in FROM_NOISE else 0.875)
    t = torch.full((8,), 0.0 if name in TO_DATA else 0.25)
    for condition in (label, {"label": label}):
        loss = method.loss(flow, x0, condition, noise=noise, times=(s, t), progress=0.5)
        assert loss.terms.keys() <= RULES | PARTS and loss.terms.keys() & (RULES | {"correction"})
        shape = (8, 2, 2) if name == "fmm" else x0.shape  # a jump and its way back
        for rule, term in loss.terms.items():
            assert term.residual.shape == shape and term.residual.requires_grad and term.value.ndim == 0
            assert torch.equal(term.s, s) and torch.equal(term.t, s if rule == "diffusion" else t)
        assert loss.value.ndim == 0
        flow.zero_grad()
        loss.value.backward()
        assert sum(weight.grad.abs().sum() for weight in flow.network.layers.parameters()) > 0


def test_flow_maps_are_teachers_too(flow):
    x0, label = batch()
    student = fm.FlowMap(Mine())
    for name in ("pfmm", "lmd"):
        getattr(fm.methods, name)(teacher=flow).loss(student, x0, label).value.backward()
    assert all(weight.grad is None for weight in flow.parameters())


def test_the_landscape_has_a_row_for_each_method():
    rows = [row for row in fm.methods.LANDSCAPE if row.name in NAMES]
    assert [row.name for row in rows] == NAMES
    for row in rows:
        assert row.rule in RULES and row.build is getattr(fm.methods, row.name) and row.cost >= 3
        assert row.published_cost is None or row.published_cost >= 4
        texts = (row.learning, row.output, row.notes, row.reference, row.equation, row.gradient)
        assert all(isinstance(text, str) and text for text in texts) and row.bibtex.startswith("@")
        assert (row.name in DISTILLATION) == row.needs_teacher == (row.learning == "distillation")
        assert (row.name in FROM_NOISE) == (row.only_source == 1.0)
        assert (row.name in FROM_NOISE | {"cmt"}) == row.data_free == built(row.name).data_free
        assert (row.name in TO_DATA) == (row.only_target == 0.0) and row.few_step >= 1


@pytest.mark.parametrize("name", sorted(TO_DATA | FROM_NOISE))
def test_partial_maps_learn_what_they_know(name):
    """By the method's own times; what they do not know is refused."""
    limit = {"only_target": 0.0} if name in TO_DATA else {"only_source": 1.0}
    flow, (x0, label) = fm.FlowMap(Mine(), **limit), batch()
    built(name).loss(flow, x0, label).value.backward()
    assert fm.sample(flow, x0).shape == x0.shape
    with pytest.raises(ValueError, match="partial flow map"):
        flow(x0, 0.75, 0.25)


def test_stages_of_one_run(flow, tmp_path):
    method = fm.Stages((0.5, fm.methods.cmt(teacher())), (0.5, fm.methods.meanflow()), name="mid_training")
    terms = [set(s.loss.terms) for s in fm.train(flow, method, batch(), steps=4, out=tmp_path / "run", **QUIET)]
    assert terms == [{"compositional"}] * 2 + [{"diffusion", "eulerian"}] * 2


def test_a_method_of_ones_own_from_parts(flow):
    """A consistency model to any target, on EDM's grid, with an averaged target and a gap that grows."""
    grid = fm.grids.karras(12)
    term = fm.Term(
        fm.finite_steps.same_endpoint,
        fm.velocity.fixed(teacher()),
        times=fm.times.growing_gap(fm.grids.on_pairs(grid)),
        weight=fm.weight.huber(),
        sources={"jumps": fm.velocity.averaged(lambda progress: 0.9 * progress)},
        name="eulerian",
    ).given(to=fm.grids.below(grid), solver=fm.steps.heun)
    method = fm.Method(fm.Term(fm.consistency.diffusion, share=0.25), replace(term, share=0.75))
    loss = method.loss(flow, batch()[0], progress=0.5)
    assert set(loss.terms) == {"diffusion", "eulerian"} and loss.value.isfinite()


def test_networks_beside_the_flow_in_a_loop_of_ones_own(flow):
    method, (x0, _) = fm.methods.freeflow(teacher()), batch()
    method.follow(flow)
    [auxiliary] = method.auxiliaries
    optimizers = [torch.optim.SGD(part.parameters(), 0.1) for part in (flow, auxiliary)]
    before = [[weight.clone() for weight in part.parameters()] for part in (flow, auxiliary)]
    method.loss(flow, torch.zeros_like(x0)).value.backward()
    for optimizer in optimizers:
        optimizer.step()
    for old, part in zip(before, (flow, auxiliary), strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old, part.parameters(), strict=True))


def test_sampling(flow):
    noise, label = batch()
    assert torch.equal(fm.sample(flow, noise), flow(noise, 1.0, 0.0))
    assert torch.equal(fm.sample(flow, noise, steps=2), fm.sample(flow, noise, times=[1.0, 0.5, 0.0]))
    assert torch.equal(fm.sample(flow, noise, condition=label), flow.given(label=label)(noise, 1.0, 0.0))
    for step in (fm.steps.euler, fm.steps.heun, fm.steps.restart, fm.steps.ancestral, fm.steps.gamma(0.5)):
        x = fm.sample(flow, noise, steps=4, step=step, condition={"label": label}, seed=0)
        assert x.shape == noise.shape and x.isfinite().all() and not x.requires_grad
    states = fm.trajectory(flow, noise, steps=3)
    assert len(states) == 4 and torch.equal(states[0], noise)
    assert fm.invert(flow, noise).shape == noise.shape
    assert fm.interpolate(flow, noise, noise.flip(0), n=5).shape == (5, 8, 2)


def test_training_and_loading(flow, tmp_path):
    method = fm.methods.meanflow()
    for state in fm.train(flow, method, batch(), steps=3, out=tmp_path / "run", **QUIET):
        assert state.flow is flow and state.loss.value.isfinite()
    assert state.step == 3
    noise, label = batch()
    loaded = fm.load(tmp_path / "run", network=Mine())
    assert torch.equal(fm.sample(loaded, noise, condition=label), fm.sample(state.ema, noise, condition=label))


def test_a_loop_of_ones_own(flow):
    optimizer = torch.optim.SGD(flow.parameters(), 0.1)
    x0, _ = batch()
    before = [weight.clone() for weight in flow.parameters()]
    fm.methods.imf().loss(flow, x0).value.backward()
    optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, flow.parameters(), strict=True))


def test_exact_distributions():
    gaussian = fm.exact.Gaussian(torch.tensor([1.0, -1.0]), 0.5)
    x = gaussian.sample(5)
    assert x.shape == (5, 2) and teacher().sample(5).shape == (5, 2)
    torch.testing.assert_close(
        gaussian.log_prob(x),
        -((x - torch.tensor([1.0, -1.0])) ** 2).sum(1) / 0.5 - math.log(2 * math.pi * 0.25),
        check_dtype=False,
    )
    for distribution in (gaussian, teacher()):
        velocity, denoised = distribution.velocity(x, 0.5), distribution.denoise(x, 0.5)
        torch.testing.assert_close(denoised, x - 0.5 * velocity)
        there = distribution.flow_map(x, 0.0, 1.0)
        torch.testing.assert_close(distribution.flow_map(there, 1.0, 0.0), x, atol=1e-4, rtol=1e-4)
