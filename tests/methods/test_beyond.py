"""The second table: methods beyond the post's landscape, with costs that are counted."""

import inspect
import json

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.experiments import explain
from flowmaps.methods import BEYOND, LANDSCAPE
from flowmaps.methods.landscape import known_rows, row_named
from tests.methods.test_landscape import Wide, passes, times_of

EACH = pytest.mark.parametrize("row", BEYOND, ids=lambda row: row.name)


class Thin(nn.Module):
    """A head that costs next to nothing."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x, s, t):
        return self.linear(torch.cat([x, s[:, None], t[:, None]], 1))


def flow_for(row):
    flow = fm.FlowMap(Wide())
    return fm.likelihood.joint_map(flow, torch.randn(32, 2), Thin()) if row.head else flow


def test_the_table_has_its_methods_and_no_other_has_them():
    assert [row.name for row in BEYOND] == ["f2d2", "falcon"]
    assert not {row.name for row in BEYOND} & {row.name for row in LANDSCAPE}
    assert set(BEYOND) <= set(known_rows())
    assert all(row_named(row.name) is row and getattr(fm.methods, row.name) is row.build for row in BEYOND)


@EACH
def test_a_row_says_what_its_function_does(row):
    method, flow = row.build(), flow_for(row)
    assert method.name == row.name and row.rule in method.loss(flow, torch.randn(32, 2)).terms
    assert row.reference.split(", ")[-1] in " ".join(inspect.getdoc(row.build).split())
    assert row.paper.title in row.bibtex and json.dumps(row.as_dict())
    assert sum(term.share for term in method.terms) == pytest.approx(1)


@EACH
def test_costs_are_what_is_counted(row):
    """Without the head of a joint map: its size is free, and its own products are the ones of the method alone.

    f2d2: LSD's 10, and value and derivative of the velocity, 2, on the diagonal. falcon: flow matching 3, MeanFlow's
    term 4, two jumps 2 and the backward pass through both 4.
    """
    flow, method = flow_for(row), row.build()
    assert passes(method, flow, times=times_of(row), progress=0.5) == pytest.approx(row.cost, abs=0.06)
    assert passes(method, flow, progress=0.5) == pytest.approx(row.shared, abs=0.06)


@EACH
def test_a_method_is_explained_and_drawn(row, tmp_path):
    found = explain(row.name)
    assert found.needs == [] and "any number of jumps" in found.sampling
    assert json.dumps(found.as_dict()) and [part.name for part in found.stages[0].parts]
    found.draw(tmp_path / "picture.png")


@pytest.mark.slow
@EACH
def test_the_shell_trains_a_method(row, tmp_path):
    """By its name, with the head that a joint map needs; the run is read, sampled and resumed like any other."""
    out = tmp_path / "run"
    fm.experiments.train("checkerboard", method=row.name, steps=2, out=out, width=16, depth=1)
    flow = fm.load(out)
    assert isinstance(flow.network, fm.networks.WithDivergence) == row.head
    assert flow.trained.up and flow.trained.down
    assert fm.sample(flow, torch.randn(4, 2), 2).shape == (4, 2)
