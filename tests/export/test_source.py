"""Source gathered from this package defines the same things."""

import sys
import types

import pytest
import torch

import flowmaps as fm
from flowmaps.export.code import home_of, names_in
from flowmaps.export.own import local_names
from flowmaps.export.source import gathered
from flowmaps.serialise import describe

SHAPE = (1, 8, 8)
NETWORKS = [
    fm.networks.MLP(SHAPE, 16, 2, classes=3, embedding=8),
    fm.networks.MLP.lipschitz(SHAPE, width=16, depth=2, embedding=8),
    fm.networks.ConcatMLP(SHAPE, 16, 2, times=fm.networks.expanded),
    fm.networks.DiT(SHAPE, 4, 16, 2, 2, classes=3, times=fm.networks.decoupled, checkpoint=True),
    fm.networks.UNet(SHAPE, 8, (1, 2), 1, attention=(4,), times=fm.networks.gap),
    fm.networks.InBasis(fm.networks.MLP(SHAPE, 16, 2, embedding=8), torch.eye(64)),
]


def module(text):
    found = types.ModuleType("gathered_for_a_test")
    sys.modules[found.__name__] = found  # dataclasses look their module up
    exec(compile(text, found.__name__, "exec"), found.__dict__)
    return found


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_gathered_networks_are_the_networks(network):
    description = describe(network)
    text = gathered(("flowmaps.export.templates.network", "made"), *map(home_of, names_in(description)))
    assert "flowmaps" not in text.replace("flowmaps.derivative.jvp", "")
    other = module(text).made(local_names(description))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    other.load_state_dict(network.state_dict())
    x, s, t = torch.randn(3, *SHAPE), torch.rand(3), torch.rand(3)
    assert type(other).__module__ == "gathered_for_a_test"
    assert torch.equal(network(x, s, t), other(x, s, t)) and network(x, s, t).abs().max() > 0


def test_what_is_only_for_training_stays_behind():
    text = gathered(("flowmaps.networks", "DiT"))
    assert "describable" not in text and "classmethod" not in text and "Dual" not in text.replace("Dual numbers", "")


def test_names_that_are_missing_are_named():
    with pytest.raises(ValueError, match="flowmaps.networks defines no 'Transformer'"):
        gathered(("flowmaps.networks", "Transformer"))


def test_two_things_of_one_name_are_told_apart():
    text = gathered(("flowmaps.networks", "MLP"), ("flowmaps.networks", "DiT"))
    both = module(text)
    assert {"Block", "Block_of_dit"} <= vars(both).keys()
    assert type(both.DiT(SHAPE, 4, 16, 1, 2).blocks[0]) is both.Block_of_dit
    assert type(both.MLP(SHAPE, 16, 1, embedding=8).blocks[0]) is both.Block
    with pytest.raises(ValueError, match="two definitions of 'Block' are wanted: flowmaps.networks.mlp, flowmaps.netw"):
        gathered(("flowmaps.networks.mlp", "Block"), ("flowmaps.networks.dit", "Block"))


def test_a_module_is_no_definition():
    with pytest.raises(ValueError, match="flowmaps.path is a module: exported code must import the names"):
        gathered(("flowmaps.flow_map", "FlowMap"))
