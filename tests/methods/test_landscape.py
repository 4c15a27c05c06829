"""The landscape table: what it says of each method, and its costs, counted."""

import copy
import inspect
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from flowmaps.methods import LANDSCAPE, Row, landscape
from flowmaps.methods.row import MARGINAL

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
    """Matrix products of the loss and its backward pass over those of one forward pass, on 32 rows."""
    x0 = torch.randn(32, 2)
    with torch.no_grad():
        forward = products(lambda: flow(x0, 1.0, 0.0))
    return products(lambda: method.loss(flow, x0, **given).value.backward()) / forward


def as_the_post_counts(row, method):
    """The terms that the post counts: one alone, where the diagonal of a method that learns from pairs has no times of
    its own but is a share of its rows."""
    first, last = method.terms[0], method.terms[-1]
    shares_rows = row.learning == MARGINAL and first is not last and first.times is last.times
    return fm.Method(last) if shares_rows else method


def times_of(row):
    """Times that the method knows."""
    if row.name == "cmt":
        return 0.75, 0.25
    return 1.0 if row.only_source == 1.0 else 0.7, 0.0 if row.only_target == 0.0 else 0.2


def flow_and_method(row, network):
    flow = fm.FlowMap(network, only_source=row.only_source, only_target=row.only_target)
    teacher = fm.FlowMap(copy.deepcopy(network))
    method = row.build(teacher) if row.needs_teacher else row.build()
    method.follow(flow)
    return flow, method


@ROWS
def test_costs_are_what_is_counted(row):
    """All terms on the whole batch, and each on its own share of it (32 rows, which all the shares divide), in the
    middle of training.

    Where we are above the post's number: esd needs two derivatives, because the one in space is stopped and the one in
    time is not, and one pass of dual numbers cannot be half stopped. That makes V(x, s, s) 1, value and derivative in
    time 2, both again for the derivative in space 2, backward through the first 4, the diffusion term 3: 12, of which
    the post's 10 leaves the second derivative's 2 out. ctm's loss is seen through one more jump, F': student 1, F' 1,
    teacher 1, the target's two jumps 2, backward through the student 2 and through F' to its input 1: 8, of which the
    post's 7 leaves the last out. Where we are below it: lmd's teacher is frozen, so its backward pass is for its input
    alone (1, not 2); the ayf methods share the pass of V with its derivative.
    """
    flow, method = flow_and_method(row, Wide())
    whole = as_the_post_counts(row, method)
    assert passes(whole, flow, times=times_of(row), progress=0.5) == pytest.approx(row.cost, abs=0.06)
    assert passes(method, flow, progress=0.5) == pytest.approx(row.shared, abs=0.06)


@pytest.mark.slow
@ROWS
def test_costs_on_a_transformer(row):
    """The same on a DiT, to a few per cent: products of two moving factors, as in attention, have two terms in a
    derivative, and a per-image embedding is no part of a pass over tokens.
    """
    torch.manual_seed(0)
    network = fm.networks.DiT((4, 8, 8), patch=2, width=128, depth=2, heads=2)
    flow, method = flow_and_method(row, network)
    whole = as_the_post_counts(row, method)
    x0 = torch.randn(32, 4, 8, 8)
    with torch.no_grad():
        forward = products(lambda: flow(x0, 1.0, 0.0))
    for seen, given, cost in ((whole, {"times": times_of(row)}, row.cost), (method, {}, row.shared)):
        counted = products(lambda seen=seen, given=given: seen.loss(flow, x0, progress=0.5, **given).value.backward())
        assert counted / forward == pytest.approx(cost, rel=0.04)


@ROWS
def test_no_cost_is_above_the_posts_where_that_can_be_right(row):
    if row.published_cost is not None:
        assert row.cost <= row.published_cost + {"esd": 2, "ctm": 1}.get(row.name, 0)
        assert row.shared <= row.cost


@ROWS
def test_a_row_says_what_its_function_does(row):
    flow, method = flow_and_method(row, Wide())
    assert row.build.__name__ == row.name == method.name and getattr(fm.methods, row.name) is row.build
    assert ("teacher" in inspect.signature(row.build).parameters) == row.needs_teacher
    assert row.rule in method.loss(flow, torch.randn(32, 2)).terms
    assert sum(term.share for term in method.terms) == pytest.approx(1)
    assert row.reference.split(", ")[-1] in " ".join(inspect.getdoc(row.build).split())
    assert row.data_free == method.data_free
    assert row.bibtex.startswith("@") and row.paper.title in row.bibtex and str(row.paper.year) in row.bibtex
    assert set(json.loads(json.dumps(row.as_dict()))) == {
        "name", "rule", "learning", "output", "notes", "published_cost", "cost", "shared", "reference", "equation",
        "gradient", "gradient_of", "only_source", "only_target", "few_step", "data_free", "coupled",
    }  # fmt: skip


@ROWS
def test_every_method_runs_out_of_the_box(row):
    """With its own times, weights and shares, in float32, with a condition; labels reach student and teacher alike."""
    torch.manual_seed(0)
    flow, method = flow_and_method(row, fm.networks.MLP(2, width=8, depth=2, embedding=8, classes=3))
    for weight in flow.parameters():
        weight.data += 0.1 * torch.randn_like(weight)  # so that it differs from its teacher
    loss = method.loss(flow, torch.randn(32, 2), torch.arange(32) % 3, progress=0.1)
    loss.value.backward()
    assert loss.value.ndim == 0 and loss.value.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in flow.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in flow.parameters())


@pytest.mark.parametrize("row", [row for row in LANDSCAPE if row.data_free], ids=lambda row: row.name)
def test_a_data_free_method_never_sees_data(row):
    flow, method = flow_and_method(row, fm.networks.MLP(2, width=8, depth=2, embedding=8))
    assert method.loss(flow, torch.full((32, 2), torch.nan)).value.isfinite()


@pytest.mark.parametrize("row", [row for row in LANDSCAPE if row.only_target == 0.0], ids=lambda row: row.name)
def test_consistency_models_ask_for_the_end_alone(row):
    """Their flow is a map to t = 0, which refuses anything else: no method of theirs asks it for more."""
    flow, method = flow_and_method(row, fm.networks.MLP(2, width=8, depth=2, embedding=8))
    for progress in (0.0, 0.4, 1.0):
        assert method.loss(flow, torch.randn(64, 2), progress=progress).value.isfinite()


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


@pytest.mark.parametrize("family", landscape.FAMILIES, ids=lambda family: family.__name__.rpartition(".")[2])
def test_a_file_exports_every_method_that_has_a_row_and_nothing_else(family):
    found = [name for name, thing in vars(family).items() if hasattr(thing, "row")]
    assert found == family.__all__ and all(getattr(family, name).__module__ == family.__name__ for name in found)


def test_a_row_stands_after_the_one_that_it_names():
    first, second, third = (replace(LANDSCAPE[0], name=name) for name in ("first", "second", "third"))
    assert landscape.in_order([first, replace(second, after="third"), third]) == (
        first, third, replace(second, after="third"),
    )  # fmt: skip


def test_a_row_with_an_unknown_part_or_paper_is_refused():
    with pytest.raises(ValueError, match="flow_matching: gradient_of names .'slope'., known parts are value, time"):
        replace(LANDSCAPE[0], gradient_of=("slope",))
    with pytest.raises(ValueError, match="references.bib has no entry 'nobody'; it has lipman2023flow"):
        fm.methods.landscape_row(paper="nobody")
