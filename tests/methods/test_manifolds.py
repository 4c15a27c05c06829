"""The table of methods on manifolds: formulas, gradients, costs that are counted, and one that trains."""

import copy
import inspect
import json

import pytest
import torch

import flowmaps as fm
from flowmaps.experiments import explain
from flowmaps.manifolds import Euclidean, Sphere, Torus
from flowmaps.methods import MANIFOLDS
from flowmaps.methods.landscape import known_rows, row_named
from tests.methods.support import Network
from tests.methods.test_gradients import EPS, PROBES, X0, Probed
from tests.methods.test_landscape import Wide, products, times_of

EACH = pytest.mark.parametrize("row", MANIFOLDS, ids=lambda row: row.name)


def made(row, network, manifold):
    """A map on a manifold, and the method of a row with a copy as its teacher."""
    path = fm.path.Geodesic(manifold)
    flow = fm.FlowMap(network, path=path, only_target=row.only_target)
    return flow, row.build(fm.FlowMap(copy.deepcopy(network), path=path)) if row.needs_teacher else row.build()


def test_the_table_has_its_methods_and_no_other_has_them():
    names = ["riemannian_flow_matching", "gfm_lsd", "gfm_esd", "gfm_psd", "riemannian_meanflow"]
    assert [row.name for row in MANIFOLDS] == [*names, "riemannian_consistency"]
    assert not {row.name for row in known_rows() if row not in MANIFOLDS} & set(names)
    assert all(row_named(row.name) is row and getattr(fm.methods, row.name) is row.build for row in MANIFOLDS)


@EACH
def test_a_row_says_what_its_function_does(row):
    flow, method = made(row, fm.networks.MLP(shape=(3,)), Sphere(2))
    loss = method.loss(flow, flow.path.noise(torch.randn(32, 3)))
    assert method.name == row.name and row.rule in loss.terms and loss.value.isfinite()
    assert sum(term.share for term in method.terms) == pytest.approx(1)
    assert row.paper.title in row.bibtex and json.dumps(row.as_dict()) and json.dumps(explain(row.name).as_dict())
    assert row.reference.split(", ")[-1] in " ".join(inspect.getdoc(row.build).split())


@EACH
def test_costs_are_what_is_counted(row):
    """As on flat paths: exp, log and their derivatives have no matrix products."""
    torch.manual_seed(0)
    flow, method = made(row, Wide(), Torus(2))
    x0 = flow.path.noise(torch.randn(32, 2))
    with torch.no_grad():
        forward = products(lambda: flow(x0, 1.0, 0.0))
    for given, cost in (({"times": times_of(row)}, row.cost), ({}, row.shared)):
        counted = products(lambda given=given: method.loss(flow, x0, **given).value.backward())
        assert counted / forward == pytest.approx(cost, abs=0.06)


@EACH
def test_which_term_receives_a_gradient(row):
    s0, t0 = times_of(row)
    flow, method = made(row, Probed(s0, t0), Euclidean(3))
    if row.needs_teacher:
        _, method = made(row, Network(seed=2), Euclidean(3))
    method.loss(flow, X0, noise=EPS, times=(s0, t0)).terms[row.rule].value.backward()
    received = [probe for probe in PROBES if flow.network.probes[probe].grad.abs().item() > 1e-9]
    assert received == list(row.gradient_of)


def squares(row, flow, x, s, t, u):
    """The loss of each row in the formulas of flat space, in which no derivative is written through exp."""
    jvp, sg = fm.derivative.jvp, torch.detach
    V, m = flow.average_velocity, (s + t) / 2
    if row.name == "gfm_lsd":
        _, dV = jvp(V, (x, s, t), (0, 0, 1))
        return V(x, s, t) + (t - s) * dV - sg(V(flow(x, s, t), t, t))
    if row.name == "gfm_psd":
        return V(x, s, t) - sg(0.5 * V(x, s, m) + 0.5 * V(flow(x, s, m), m, t))
    v = sg(V(x, s, s)) if row.name == "gfm_esd" else u
    _, dV = jvp(V, (x, s, t), (v, 1, 0))
    return V(x, s, t) - v - (t - s) * dV


@pytest.mark.parametrize("name", ["gfm_lsd", "gfm_esd", "gfm_psd", "riemannian_meanflow"])
def test_losses_are_the_formulas_on_the_torus(name):
    """The torus is flat, so that the formulas of flat space hold on it as long as no angle wraps."""
    row = row_named(name)
    flow, _ = made(row, Network(), Torus(3))
    s, t = (torch.full((12, 1), time).double() for time in (0.7, 0.2))
    method = (
        row.build(split=fm.consistency.midpoint) if "split" in inspect.signature(row.build).parameters else row.build()
    )
    loss = method.loss(flow, 0.3 * X0, noise=0.3 * EPS, times=(s[:, 0], t[:, 0]))
    pair = flow.path.interpolate(0.3 * X0, 0.3 * EPS, s), flow.path.velocity(0.3 * X0, 0.3 * EPS, s)
    wanted = squares(row, flow, pair[0], s, t, pair[1]).square().sum(1).mean()
    assert loss.terms[row.rule].value.item() == pytest.approx(wanted.item(), rel=1e-9)
    diagonal = (flow.velocity(pair[0], s) - pair[1]).square().sum(1).mean()
    assert loss.terms["diffusion"].value.item() == pytest.approx(diagonal.item(), rel=1e-9)
