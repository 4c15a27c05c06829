"""Flow maps without the adapter: the teacher inside an adapted one, and an adapted one with merged weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from ...flow_map import FlowMap
from ...pretrained import Pretrained
from ...students import Student
from ...velocity.copies import copied
from .adapted import adapted_of, core_of, layers_of


def base_of(flow: FlowMap) -> Pretrained | FlowMap:
    """Return the teacher of an adapted flow map; both share the frozen weights in memory.

    Args:
        flow: An adapted flow map.

    Returns:
        The teacher in evaluation mode; training the flow map does not change it.

    Raises:
        ValueError: For a flow map without an adapter.
    """
    network: Any = bare(copied(adapted_of(flow).network))
    if isinstance(network, Student) and network.reading is not None:
        return Pretrained(network.network, network.reading).given(**flow.condition)
    if isinstance(network, Student):  # the teacher is a flow map
        network = network.network.network
    base = FlowMap(network.requires_grad_(False).eval(), flow.output, flow.path, guidance=flow.guidance)
    base.units = flow.units
    return base.given(**flow.condition).eval()


def merged(flow: FlowMap) -> FlowMap:
    """Merge the adapter, at its weight, into copies of the weights.

    Args:
        flow: An adapted flow map, unchanged.

    Returns:
        An ordinary flow map; all its weights are trainable and in its state dict.

    Raises:
        ValueError: For a flow map without an adapter.
    """
    network = copy.deepcopy(adapted_of(flow))
    for layer in layers_of(network):
        layer.merge()
    with torch.no_grad():
        for name in network.gates:
            network.network.get_parameter(name).mul_(network.weight)
    if network.left_out and hasattr(core_of(network), "config"):
        from ..diffusers.networks import forget_folder

        forget_folder(network)
    return flow.around(bare(network.network).requires_grad_())


def bare(network: nn.Module) -> nn.Module:
    """Replace the LoRA layers of a network by its own layers, in place."""
    for name, layer in [(name, part) for name, part in network.named_modules() if isinstance(part, LoraLayer)]:
        home, _, last = name.rpartition(".")
        setattr(network.get_submodule(home), last, layer.get_base_layer())
    return network
