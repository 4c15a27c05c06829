"""Networks beside the flow run without a graph, but where a method sends gradients through them."""

import torch

import flowmaps as fm
from flowmaps.methods import LANDSCAPE


class Watched(fm.networks.ConcatMLP):
    """Notes for each of its passes which network ran, and whether a graph was made."""

    passes = []

    def forward(self, x, s, t, label=None):
        self.passes.append((self, torch.is_grad_enabled()))
        return super().forward(x, s, t, label)


def graphs_beside_the_flow(row):
    """How many passes with and without a graph other networks than the flow's have in a step."""
    Watched.passes.clear()
    flow = fm.FlowMap(Watched(2, width=4, depth=1), only_source=row.only_source, only_target=row.only_target)
    teacher = fm.FlowMap(Watched(2, width=4, depth=1))
    method = row.build(**({"teacher": teacher} if row.needs_teacher else {}))
    method.loss(flow, torch.randn(16, 2), progress=0.5).value.backward()
    beside = [graph for network, graph in Watched.passes if network is not flow.network]
    return beside.count(True), beside.count(False)


def test_teachers_and_averages_leave_no_graph():
    """But for the teacher of lmd and the average of ctm, whose inputs pass gradients, and the network that freeflow
    trains.
    """
    found = {row.name: graphs_beside_the_flow(row) for row in LANDSCAPE}
    assert {name: graphs for name, (graphs, _) in found.items() if graphs} == {"lmd": 1, "ctm": 1, "freeflow": 1}
    assert {row.name for row in LANDSCAPE if row.needs_teacher} - {"lmd"} <= {
        n for n, (_, none) in found.items() if none
    }
