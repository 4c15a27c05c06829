"""The table of methods that match distributions: costs that are counted, learning, resuming, and measured gates."""

import copy
import inspect
import json
import math
from dataclasses import replace

import pytest
import torch

import flowmaps as fm
from flowmaps.experiments import explain
from flowmaps.methods import DISTRIBUTIONAL
from flowmaps.methods.landscape import known_rows, row_named
from flowmaps.training.ema import Average
from tests.methods.test_landscape import Wide, flow_and_method, passes, times_of

SETS = ("drifting", "imm", "fd_loss")
EACH = pytest.mark.parametrize("row", [row for row in DISTRIBUTIONAL if row.name in SETS], ids=lambda row: row.name)
ANGLES = torch.arange(8, dtype=torch.float64) * math.pi / 4
RING = fm.exact.GaussianMixture([1 / 8] * 8, 2 * torch.stack((ANGLES.cos(), ANGLES.sin()), 1), 0.2)


def test_the_table_has_its_methods_and_no_other_has_them():
    names = {row.name for row in DISTRIBUTIONAL}
    assert set(SETS) < names and not names & {row.name for row in known_rows() if row not in DISTRIBUTIONAL}
    assert all(row_named(row.name) is row and getattr(fm.methods, row.name) is row.build for row in DISTRIBUTIONAL)


@EACH
def test_a_row_says_what_its_function_does(row):
    flow, method = flow_and_method(row, fm.networks.MLP(2, width=8, depth=2, embedding=8, classes=3))
    loss = method.loss(flow, torch.randn(32, 2), torch.arange(32) % 3)
    loss.value.backward()
    assert method.name == row.name and list(loss.terms) == [row.rule] and loss.terms[row.rule].is_distance
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in flow.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in flow.parameters())
    assert row.reference.split(", ")[-1] in " ".join(inspect.getdoc(row.build).split())
    assert row.paper.title in row.bibtex and json.dumps(row.as_dict()) and json.dumps(explain(row.name).as_dict())


@EACH
def test_costs_are_what_is_counted(row):
    """Sample 1 and backward 2; imm has a second jump without gradient. The products of the kernels are negligible."""
    flow, method = flow_and_method(row, Wide())
    assert passes(method, flow) == pytest.approx(row.cost, abs=0.06)
    assert passes(method, flow, times=times_of(row)) == pytest.approx(row.shared, abs=0.06)


@EACH
def test_guidance_that_would_have_no_effect_is_refused(row):
    """The rules ask for no velocity, so that a guided one would be dropped in silence."""
    with pytest.raises(ValueError, match="asks for no velocity, so that a teacher or guidance would have no effect"):
        fm.guidance.guided(row.build(), fm.guidance.imf(null={"label": 3}))
    with pytest.raises(ValueError, match="no effect|sampled pair"):
        replace(fm.methods.drifting().terms[0], velocity=fm.velocity.own)


def test_imm_has_the_times_and_the_weight_of_its_formula():
    """With eta(u) = u/(1 - u), and the derivative of l by autograd."""
    term = fm.methods.imm(halvings=6, power=2.0).terms[0]
    s, t = torch.linspace(0.02, 0.98, 25).double().requires_grad_(), torch.full((25,), 0.1, dtype=torch.float64)
    eta = s / (1 - s) - 160 / 64
    assert torch.allclose(term.rule.keywords["earlier"](s, t), torch.where(eta > 0.1 / 0.9, eta / (1 + eta), t))
    log_ratio = 2 * ((1 - s) / s).log()
    (slope,) = torch.autograd.grad(log_ratio.sum(), s)
    wanted = torch.sigmoid(5 - log_ratio) / 2 * -slope * (1 - s) ** 2 / ((1 - s) ** 2 + s**2)
    assert torch.allclose(term.weight(torch.ones(25, 1).double(), s, t), wanted)
    torch.manual_seed(0)
    s, t = term.times(32, 0.0, s)
    assert s.reshape(4, 8).unique(dim=0).shape == (1, 8) and bool((t <= s).all()) and s.max() < 160 / 161
    ends = torch.tensor([0.0, 1.0])
    assert term.rule.keywords["earlier"](ends, torch.zeros(2)).tolist() == [0, 1]  # no pole at the ends
    assert bool(term.weight(torch.ones(2, 1), ends, torch.zeros(2)).isfinite().all())


def test_fd_loss_with_given_moments_uses_no_data_and_shows_the_distance():
    torch.manual_seed(0)
    mean, covariance = torch.tensor([0.3, -1.0]), torch.tensor([[1.0, 0.4], [0.4, 0.5]])
    method = fm.methods.fd_loss(reference=(mean, covariance), features=torch.nn.Identity())
    assert method.data_free and not fm.methods.fd_loss().data_free
    flow = fm.FlowMap(fm.networks.MLP(2, width=16, depth=2), only_source=1.0, only_target=0.0)
    optimizer, values = torch.optim.Adam(flow.parameters(), 1e-2), []
    for _ in range(150):
        loss = method.loss(flow, torch.full((128, 2), torch.nan)).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[0] > 1 and max(values[-10:]) < 0.1  # 128 samples of the law itself are at about .02
    x = flow(torch.randn(4000, 2), 1.0, 0.0).detach()
    assert torch.allclose(x.mean(0), mean, atol=0.1) and torch.allclose(x.T.cov(), covariance, atol=0.15)


def test_features_are_compared_in_place_of_rows_and_stay_constant():
    """A network that sees the first coordinate alone: no gradient reaches the others or its weights."""
    network = torch.nn.Linear(3, 1, bias=False).double()
    network.weight.data = torch.tensor([[1.0, 0.0, 0.0]]).double()
    for method in (fm.methods.drifting(features=network), fm.methods.fd_loss(features=network)):
        ends, rule = [], method.terms[0].rule
        inner = rule.keywords["features"]
        term = replace(method.terms[0], rule=lambda *a, rule=rule, inner=inner, ends=ends, **k: rule(
            *a, **k | {"features": lambda y: ends.append(y) or inner(y)}
        ))  # fmt: skip
        flow = fm.FlowMap(Free(), only_source=1.0, only_target=0.0)
        fm.Method(term).loss(flow, torch.randn(32, 3).double()).value.backward()
        slope = flow.network.shift.grad
        assert slope[0] != 0 and not slope[1:].any() and network.weight.grad is None


class Free(torch.nn.Module):
    """A constant average velocity."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.full((3,), 0.1, dtype=torch.float64))

    def forward(self, x, s, t):
        return self.shift.expand_as(x)


def test_a_stopped_run_of_fd_loss_continues_with_its_moments(tmp_path):
    data, quiet = torch.randn(64, 2), {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 16}
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=2), only_source=1.0, only_target=0.0)
    starts = [copy.deepcopy(flow) for _ in range(2)]
    runs = []
    for start, stops in zip(starts, ((6,), (3, 6)), strict=True):
        folder = tmp_path / str(len(stops))
        for k, stop in enumerate(stops):
            options = {"steps": 6, "out": folder, "checkpoint_every": 3, "resume": k > 0}
            for state in fm.train(copy.deepcopy(start), fm.methods.fd_loss(decay=0.9), data, **quiet, **options):
                if state.step == stop:
                    break
        runs.append(state.flow.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def trained(method, steps, lr, **limits):
    """An averaged map of the ring: AdamW, its rate decayed to zero, batches of 256, average of decay .998."""
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(2, width=128, depth=3), **limits)
    average, optimizer = Average(flow, 0.998), torch.optim.AdamW(flow.parameters(), lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        loss = method.loss(flow, RING.sample(256).float(), progress=step / steps).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
    return average.flow


def distance(flow, n=10_000):
    torch.manual_seed(1)
    return fm.evaluate.energy_distance(fm.sample(flow, torch.randn(n, 2)), RING.sample(n).float())


@pytest.mark.slow
def test_drifting_makes_the_ring_in_one_jump():
    """Energy distance of 10,000 samples, whose standard error is .0006; measured .0017."""
    method = fm.methods.drifting(temperature=(0.01, 0.02, 0.05))
    assert distance(trained(method, 2000, 1e-3, only_source=1.0, only_target=0.0)) <= 0.003


@pytest.mark.slow
def test_imm_makes_the_ring_in_one_jump_where_two_moments_do_not():
    """The same distance, measured .006 and, for FD-loss of the coordinates as a control, .030."""
    assert distance(trained(fm.methods.imm(halvings=8), 1000, 2e-3)) <= 0.012
    assert distance(trained(fm.methods.fd_loss(), 300, 2e-3, only_source=1.0, only_target=0.0)) >= 0.02
