"""The landscape table: what it says of each method, and its costs, counted."""

import copy
import inspect
import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from flowmaps.methods import LANDSCAPE, Row

ROWS = pytest.mark.parametrize("row", LANDSCAPE, ids=[row.name for row in LANDSCAPE])


class Wide(nn.Module):
    """Six wide layers between thin ends, so that the ends weigh less than half a per cent of the products."""

    def __init__(self, width=512):
        super().__init__()
        self.input, self.output = nn.Linear(2 + 2, width), nn.Linear(width, 2)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(6))

    def forward(self, x, s, t):
        h = self.input(torch.cat([x, s[:, None], t[:, None]], 1))
        for layer in self.inner:
            h = layer(torch.tanh(h))
        return self.output(torch.tanh(h))


def products(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def passes(method, flow, **given):
    """Matrix products of the loss and its backward pass over those of one forward pass, on eight rows."""
    x0 = torch.randn(8, 2)
    with torch.no_grad():
        forward = products(lambda: flow(x0, 0.7, 0.2))
    return products(lambda: method.loss(flow, x0, **given).value.backward()) / forward


@ROWS
def test_costs_are_what_is_counted(row):
    """All terms on the whole batch, and each on its own share of it (eight rows, which all the shares divide).

    Where we are above the post's number: esd needs two derivatives, because the one in space is stopped and the one in
    time is not, and one pass of dual numbers cannot be half stopped. That makes V(x, s, s) 1, value and derivative in
    time 2, both again for the derivative in space 2, backward through the first 4, the diffusion term 3: 12, of which
    the post's 10 leaves the second derivative's 2 out. Where we are below it: lmd's teacher is frozen, so its backward
    pass is for its input alone (1, not 2); the ayf methods share the pass of V with its derivative.
    """
    flow = fm.FlowMap(Wide())
    method = row.build(fm.FlowMap(copy.deepcopy(flow.network))) if row.needs_teacher else row.build()
    # the diagonal of these two is a share of the rows of the one term that the post counts
    whole = fm.Method(method.terms[-1]) if row.name in ("meanflow", "imf") else method
    assert passes(whole, flow, times=(0.7, 0.2)) == pytest.approx(row.cost, abs=0.06)
    assert passes(method, flow) == pytest.approx(row.shared, abs=0.06)


@ROWS
def test_a_row_says_what_its_function_does(row):
    method = row.build(fm.exact.Gaussian(0.0)) if row.needs_teacher else row.build()
    assert row.build.__name__ == row.name == method.name and getattr(fm.methods, row.name) is row.build
    assert ("teacher" in inspect.signature(row.build).parameters) == row.needs_teacher
    assert row.rule in [term.name for term in method.terms]
    assert sum(term.share for term in method.terms) == pytest.approx(1)
    assert row.reference.split(", ")[-1] in " ".join(inspect.getdoc(row.build).split())
    assert set(json.loads(json.dumps(row.as_dict()))) == {
        "name", "rule", "learning", "output", "notes", "published_cost", "cost", "shared", "reference",
    }  # fmt: skip


@ROWS
def test_every_method_runs_out_of_the_box(row):
    """With its own times, weights and shares, in float32, with a condition."""
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=2, embedding=8, classes=3))
    method = row.build(fm.exact.Gaussian([0.0, 1.0], 0.5)) if row.needs_teacher else row.build()
    loss = method.loss(flow, torch.randn(16, 2), torch.arange(16) % 3, progress=0.5)
    loss.value.backward()
    assert loss.value.ndim == 0 and loss.value.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in flow.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in flow.parameters())


@pytest.mark.parametrize("row", [row for row in LANDSCAPE if row.needs_teacher], ids=lambda row: row.name)
@pytest.mark.parametrize("teacher, message", [(None, "none was given"), (3.0, "float has no such method")])
def test_a_distillation_method_asks_for_its_teacher(row, teacher, message):
    with pytest.raises(TypeError, match=f"needs teacher=.*{message}"):
        row.build(teacher)


@pytest.mark.parametrize("row", [row for row in LANDSCAPE if row.needs_teacher], ids=lambda row: row.name)
def test_a_teacher_of_another_shape_is_refused(row):
    class Thin:
        def velocity(self, x, t):
            return x[:, :1]

    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=2, embedding=8))
    with pytest.raises(ValueError, match=r"teacher must return the shape of x, \(\d, 2\), but it returned \(\d, 1\)"):
        row.build(Thin()).loss(flow, torch.randn(8, 2))


def test_rows_are_values():
    assert all(isinstance(row, Row) for row in LANDSCAPE)
    assert len({row.name for row in LANDSCAPE}) == len(LANDSCAPE)
    assert {row.name for row in LANDSCAPE} <= set(fm.methods.__all__)
