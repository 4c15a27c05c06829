"""The public names, called as a user would call them."""

import math

import pytest
import torch
from torch import nn

import flowmaps as fm

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8}
NAMES = (
    "flow_matching lmd lsd ayf_lmd emd esd ayf_emd meanflow imf shortcut splitmeanflow psd pfmm"  # in the post's order
).split()
RULES = {"diffusion", "lagrangian", "eulerian", "compositional"}


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
    [row] = [row for row in fm.methods.LANDSCAPE if row.name == name]
    assert row.build is build
    return build(teacher=teacher()) if row.learning == "distillation" else build()


@pytest.mark.parametrize("name", NAMES)
def test_every_method_gives_a_loss_with_terms(flow, name):
    method, (x0, label) = built(name), batch()
    with torch.no_grad():
        assert method.loss(flow, x0).value.isfinite()
    noise, s, t = torch.randn_like(x0), torch.full((8,), 0.9), torch.full((8,), 0.2)
    for condition in (label, {"label": label}):
        loss = method.loss(flow, x0, condition, noise=noise, times=(s, t), progress=0.5)
        assert loss.terms.keys() <= RULES
        for rule, term in loss.terms.items():
            assert term.residual.shape == x0.shape and term.residual.requires_grad and term.value.ndim == 0
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
    assert [row.name for row in fm.methods.LANDSCAPE] == NAMES
    for row in fm.methods.LANDSCAPE:
        assert row.rule in RULES and callable(row.build) and row.cost >= 3
        assert row.published_cost is None or row.published_cost >= 4
        assert all(isinstance(text, str) and text for text in (row.learning, row.output, row.notes, row.reference))


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
