"""Methods that match distributions with a guided teacher, and on a flow map with LoRA."""

import copy

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.integrations.peft import lora
from flowmaps.methods import DISTRIBUTIONAL
from tests.test_compile import Counting

TAUGHT = [row for row in DISTRIBUTIONAL if row.needs_teacher]
POLICIES = [row for row in TAUGHT if row.name == "pi_flow"]
CLASSES = 3
ROWS, LABELS = 24, torch.arange(24) % CLASSES
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8}


def flow_of(row, seed=0):
    """A flow map around a small class-conditional network, as the method needs it."""
    torch.manual_seed(seed)
    policy = fm.outputs.MixturePolicy.fit(torch.randn(64, 2), components=4) if row in POLICIES else None
    options = {} if policy is None else {"channels_out": policy.channels}
    network = fm.networks.MLP(2, 8, 2, embedding=8, classes=CLASSES, **options)
    nn.init.normal_(network.output.weight)
    limits = {"only_source": row.only_source, "only_target": row.only_target}
    return fm.FlowMap(network, policy or fm.average_velocity, **limits)


def teacher_of():
    torch.manual_seed(7)
    network = fm.networks.MLP(2, 8, 2, embedding=8, classes=CLASSES)
    nn.init.normal_(network.output.weight)
    return fm.FlowMap(network)


def losses(row, teacher):
    """The loss of each turn of a cycle, with the same random numbers for every teacher."""
    flow, found = flow_of(row), []
    method = row.build(teacher)
    method.follow(flow)
    for turn in range(sum(getattr(method, "counts", (1,)))):
        torch.manual_seed(turn)
        found.append(method.loss(flow, torch.randn(ROWS, 2), LABELS).value.detach())
    return torch.stack(found)


def test_features_of_a_guided_teacher_are_refused():
    """Two calls of a network have no features of one."""
    with pytest.raises(TypeError, match="a FlowMap, whose network has the features, got a ClassifierFree"):
        fm.methods.ladd(fm.guidance.classifier_free(teacher_of(), 3.0, null={"label": CLASSES}))


@pytest.mark.parametrize("row", [row for row in TAUGHT if row.name != "ladd"], ids=lambda row: row.name)
def test_the_velocity_of_a_guided_teacher_is_the_guided_one(row):
    """Scale 3 is scale 1 outside of the interval in which it acts, and another teacher inside."""
    settings = ((1.0, (0.0, 1.0)), (3.0, (0.0, 1e-9)), (3.0, (0.0, 1.0)))
    plain, outside, guided = (
        losses(row, fm.guidance.classifier_free(teacher_of(), scale, null={"label": CLASSES}, interval=interval))
        for scale, interval in settings
    )
    torch.testing.assert_close(outside, plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(guided, plain, rtol=1e-2)


@pytest.mark.parametrize("row", [row for row in DISTRIBUTIONAL if row not in POLICIES], ids=lambda row: row.name)
def test_lora_trains_the_adapter_alone(row):
    before = flow_of(row)
    flow = lora(before, 2, targets=["inner", "outer"])
    given = {"null": {"label": CLASSES}} if row.null else {}
    method = row.build(fm.FlowMap(before.network)) if row.needs_teacher else row.build(**given)
    kept = copy.deepcopy({name: weight for name, weight in flow.named_parameters() if not weight.requires_grad})
    moving = copy.deepcopy({name: weight for name, weight in flow.named_parameters() if weight.requires_grad})
    assert kept and moving
    data = fm.data.as_data((torch.randn(64, 2), torch.arange(64) % CLASSES))
    steps = sum(getattr(method, "counts", (1,))) + 1
    *_, last = fm.train(flow, method, data, steps=steps, ema=0.5, **QUIET)
    trained = dict(last.flow.named_parameters())
    assert all(torch.equal(trained[name], weight) for name, weight in kept.items())
    assert any(not torch.equal(trained[name], weight) for name, weight in moving.items())


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in DISTRIBUTIONAL if row.name != "ladd"], ids=lambda row: row.name)
def test_the_loss_of_each_turn_is_one_graph(row):
    """ladd reads features by hooks, which a graph cannot hold: there `torch.compile` makes several."""
    flow = flow_of(row)
    given = {"null": {"label": CLASSES}} if row.null else {}
    method = row.build(teacher_of()) if row.needs_teacher else row.build(**given)
    method.follow(flow)
    for part in getattr(method, "methods", (method,)):
        drawn, values = part.draw(flow, torch.randn(ROWS, 2), LABELS), []
        torch._dynamo.reset()
        backend = Counting()
        for measure in (torch.compile(fm.method.measure, backend=backend, fullgraph=True), fm.method.measure):
            torch.manual_seed(2)
            values.append(measure(flow, part.now(0.0), drawn).value)
        assert backend.graphs == 1
        torch.testing.assert_close(*values)
