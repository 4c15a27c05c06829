"""The table of methods of discrete data: costs that are counted, every other method on a softmax, and truth."""

import inspect
import json

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.experiments import explain
from flowmaps.methods import DISCRETE, LANDSCAPE
from flowmaps.methods.landscape import known_rows, row_named
from flowmaps.training.ema import Average
from tests.methods.test_landscape import Wide, products, times_of
from tests.tokens import TokenMLP, parity, table, table_tv, token_flow

EACH = pytest.mark.parametrize("row", DISCRETE, ids=lambda row: row.name)
LAW = fm.exact.Categorical(table())


class WideWords(Wide):
    """The wide network on a word of one letter of two."""

    def forward(self, x, s, t):
        return super().forward(x[:, 0], s, t)[:, None]


def made(row, flow):
    """The method of a row, with a map like `flow` as its teacher."""
    return row.build(fm.FlowMap(type(flow.network)(), flow.output)) if row.needs_teacher else row.build()


def test_the_table_has_its_methods_and_no_other_has_them():
    names = ["cfm_csd", "cfm_ecld", "dfm_psd", "dfm_lsd", "dfm_esd", "flm", "fmlm", "cdcd"]
    assert [row.name for row in DISCRETE] == names
    assert not {row.name for row in known_rows() if row not in DISCRETE} & set(names)
    assert all(row_named(row.name) is row and getattr(fm.methods, row.name) is row.build for row in DISCRETE)


@EACH
def test_a_row_says_what_its_function_does(row):
    flow = fm.FlowMap(WideWords(), fm.Endpoint(link=fm.links.Hull(torch.eye(2))))
    method, x0 = made(row, flow), nn.functional.one_hot(torch.arange(32) % 2, 2)[:, None].float()
    assert method.name == row.name and row.rule in method.loss(flow, x0).terms
    assert row.reference.split(", ")[-1] in " ".join(inspect.getdoc(row.build).split())
    assert row.paper.title in row.bibtex and json.dumps(row.as_dict()) and row.classes
    assert sum(term.share for term in method.terms) == pytest.approx(1)
    assert row.rule in [term.name for term in method.terms]
    assert json.dumps(explain(row.name).as_dict())


@EACH
def test_costs_are_what_is_counted(row):
    """The diagonal 3; a divergence from two jumps or along a stopped derivative 5, through the derivative 7."""
    torch.manual_seed(0)
    flow = fm.FlowMap(WideWords(), fm.Endpoint(link=fm.links.Hull(torch.eye(2))))
    method, x0 = made(row, flow), nn.functional.one_hot(torch.arange(32) % 2, 2)[:, None].float()
    with torch.no_grad():
        forward = products(lambda: flow(x0, 1.0, 0.0))
    for given, cost in (({"times": times_of(row)}, row.cost), ({}, row.shared)):
        counted = products(lambda given=given: method.loss(flow, x0, **given).value.backward())
        assert counted / forward == pytest.approx(cost, abs=0.06)


@EACH
def test_the_loop_trains_a_method_and_records_its_jumps(row):
    link = fm.links.Hull(torch.eye(3)) if row.name == "cdcd" else fm.links.softmax
    flow = fm.FlowMap(TokenMLP(2, 3), fm.Endpoint(link=link))
    method = row.build(fm.FlowMap(TokenMLP(2, 3), flow.output)) if row.needs_teacher else row.build()
    data = fm.data.tokens(torch.arange(64).reshape(32, 2) % 3, 3)
    last = fm.fit(flow, method, data, steps=1, batch_size=8, progress_bar=False)
    assert last.loss.value.isfinite() and last.flow.trained.jumps == (row.name not in ("flm", "cdcd"))


def test_every_method_without_a_teacher_trains_a_map_with_a_softmax():
    """One loss and its gradient; the others learn from pictures or from positions, and say so."""
    torch.manual_seed(0)
    x0, refused = LAW.sample(16), {}
    for row in (*LANDSCAPE, *DISCRETE):
        if row.needs_teacher:
            continue
        limits = {"only_source": row.only_source, "only_target": row.only_target}
        flow = fm.FlowMap(TokenMLP(2, 3).double(), fm.Endpoint(link=fm.links.softmax), **limits)
        if row.own_map:
            flow = fm.FlowMap(TokenMLP(2, 3).double(), fm.Endpoint(link=fm.links.Hull(torch.eye(3).double())))
        try:
            method = row.build()
            method.follow(flow)
            method.loss(flow, x0, progress=0.5).value.backward()
        except ValueError as error:
            refused[row.name] = str(error)
            continue
        assert all(bool(weight.grad.isfinite().all()) for weight in flow.parameters()), row.name
        assert any(bool(weight.grad.abs().sum() > 0) for weight in flow.parameters()), row.name
    assert refused.keys() == set()


def trained(method, law, steps, width):
    """An averaged map of a law: AdamW 3e-3 decayed, batches of 256, average of decay .999."""
    torch.manual_seed(0)
    flow = token_flow(law, torch.float32, width=width, depth=3)
    average, optimizer = Average(flow, 0.999), torch.optim.AdamW(flow.parameters(), 3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        loss = method.loss(flow, law.sample(256).float(), progress=step / steps).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update()
    return average.flow


def tv_of(flow, law, jumps, n=20_000, **options):
    torch.manual_seed(1)
    return table_tv(law, fm.sample(flow, torch.randn(n, *law.shape), steps=jumps, **options).argmax(-1))


@pytest.mark.slow
@pytest.mark.parametrize("make, bound, steps", [(parity, 0.05, 5000), (table, 0.03, 2000)], ids=["parity", "table"])
def test_one_jump_makes_words_of_a_law_where_an_euler_step_cannot(make, bound, steps):
    """Total variation of 20,000 words, floor .005; valid words. One Euler step gives every word the same letters."""
    law = fm.exact.Categorical(make())
    flow = trained(fm.methods.dfm_psd(), law, steps, width=64)
    assert tv_of(flow, law, 1) <= bound and tv_of(flow, law, 4) <= bound
    tokens = fm.sample(flow, torch.randn(20_000, *law.shape)).argmax(-1)
    assert float((law.log_prob_of(tokens) > -torch.inf).double().mean()) >= 0.98
    assert tv_of(flow, law, 1, step=fm.steps.euler) >= 0.35
