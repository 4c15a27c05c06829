"""A network with trained low-rank additions and frozen weights."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.func import functional_call

from ...files import weights_checksum
from ...flow_map import FlowMap
from ...serialise import describable, describe
from .layers import Targets, chosen

NAME = "default"
"""The name of the adapter in peft."""
BESIDE = ("prepare", "begin", "next", "head", "ends", "ending")
"""What a network may have beside its call: conditions computed once, and sequences made frame by frame."""


@describable
class Adapted(nn.Module):
    """A network with LoRA in its layers:  W x  becomes  W x + weight alpha/rank B A x,  with B zero at first.

    A (rank, in) and B (out, rank) are trained, in float32 at least. A student's new embeddings, of the second time and
    of its numeric conditions, are trained too. All other weights are frozen.

    The state dict leaves out frozen weights that can be loaded again: weights that a `DiffusersNetwork` read from a
    folder, and weights of a network that `describe` cannot describe, which the caller of `fm.load` supplies. It holds a
    checksum of them instead; loading it around other weights raises ValueError.

    Args:
        network: The network, changed in place.
        rank: Rank of the additions.
        alpha: Scale of the additions is alpha/rank. None: alpha = rank.
        targets: The layers, see `layers.chosen`. None: attention and feed-forward layers.
        dropout: Dropout of x before A in training.

    Raises:
        ValueError: For a rank below 1, an alpha that is not positive, a dropout outside [0, 1), targets that match no
            layer, and a network that has LoRA already.
    """

    checksum: Tensor
    base: Tensor

    def __init__(
        self, network: nn.Module, rank: int, alpha: float | None = None, targets: Targets = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check(network, rank, alpha, dropout)
        self.network = network
        core = core_of(network)
        self.layers = chosen(core, targets)
        pretrained = dict(core.named_parameters())
        known = weights_checksum(pretrained)
        again = can_be_loaded_again(network, known)
        old = {id(weight) for weight in pretrained.values()}
        self.new = sorted(f"network.{name}" for name, w in network.named_parameters() if id(w) not in old)
        self.gates = _zero(network, old) if known else []
        self.weight = 1.0
        _inject(core, self.layers, rank, rank if alpha is None else alpha, dropout)
        for weight in self.parameters():
            weight.requires_grad_(id(weight) not in old)
        self.frozen = frozenset(name for name, weight in self.named_parameters() if id(weight) in old)
        self.left_out = self.frozen if again else frozenset()
        first = next(iter(pretrained.values()))
        self.register_buffer("checksum", torch.tensor(list(bytes.fromhex(known)) or [0] * 32, dtype=torch.uint8))
        self.register_buffer("base", first.detach().new_empty(0))  # its dtype
        self.register_state_dict_post_hook(_leave_out)

    def __getattr__(self, name: str) -> Any:
        return getattr(super().__getattr__("network"), name) if name in BESIDE else super().__getattr__(name)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate the network with the adapter at its weight."""
        if self.weight == 1.0:
            return self.network(x, s, t, **condition)
        gates = {name: self.weight * self.network.get_parameter(name) for name in self.gates}
        return functional_call(self.network, gates, (x, s, t), condition)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        own = dict(self.named_parameters())
        missing = frozenset(name for name in self.frozen if prefix + name not in state_dict)
        self.left_out &= missing
        if missing:
            theirs = state_dict.get(f"{prefix}checksum")
            if theirs is not None and not torch.equal(theirs.cpu(), self.checksum.cpu()):
                raise ValueError(
                    "the adapter was trained on other weights than these: the base has changed, or another base was "
                    "given. Restore it, or pass a flow map around the original base, fm.load(run, network=...); "
                    "load_adapter puts an adapter onto another base"
                )
            self._cast([own[name] for name in sorted(missing)])
        state_dict.update({prefix + name: own[name].detach() for name in missing})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _cast(self, weights: list[nn.Parameter]) -> None:
        """Cast weights to the dtype in which the adapter was trained, if the folder has another one."""
        floating = [weight for weight in weights if weight.is_floating_point()]
        if self.base.dtype not in {weight.dtype for weight in floating}:
            for weight in floating:
                weight.data = weight.data.to(self.base.dtype)


def lora(
    flow: FlowMap, rank: int, *, alpha: float | None = None, targets: Targets = None, dropout: float = 0.0
) -> FlowMap:
    """Add LoRA to the attention and feed-forward layers of a flow map, or to `targets`; see `Adapted`.

    The given flow map is unchanged. The two share the memory of the frozen weights.

    Args:
        flow: The flow map.
        rank: Rank of the additions.
        alpha: Scale of the additions is alpha/rank. None: alpha = rank.
        targets: The layers, see `layers.chosen`. None: attention and feed-forward layers.
        dropout: Dropout of x before A in training.

    Returns:
        The adapted flow map, at first equal to the given one bit for bit.

    Raises:
        ValueError: For a rank below 1, an alpha that is not positive, a dropout outside [0, 1), targets that match no
            layer, and a flow map that is adapted already.
    """
    shared = core_of(flow.network).parameters()
    memo: dict[int, Any] = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in shared}
    _check(flow.network, rank, alpha, dropout)
    return flow.around(Adapted(copy.deepcopy(flow.network, memo), rank, alpha, targets, dropout))


def set_weight(flow: FlowMap, weight: float) -> None:
    """Scale the adapter in place; the additions of the layers are linear in the weight.

    Args:
        flow: An adapted flow map.
        weight: 0 is exactly the base, 1 is as trained.

    Raises:
        ValueError: For a flow map without an adapter, a weight that is not finite, and a student with new embeddings
            that did not start at zero.
    """
    adapted = adapted_of(flow)
    if not math.isfinite(weight):
        raise ValueError(f"the weight of an adapter must be finite, got {weight}")
    if adapted.new and not adapted.gates and weight != 1:
        raise ValueError(
            "the new embeddings of this student were trained before it was adapted, and the adapter does not hold "
            "them: its weight must be 1"
        )
    adapted.weight = float(weight)
    for layer in layers_of(adapted):
        layer.set_scale(NAME, float(weight))


def adapted_of(flow: FlowMap) -> Adapted:
    """Return the network of an adapted flow map.

    Raises:
        ValueError: For a flow map without an adapter.
    """
    if isinstance(flow.network, Adapted):
        return flow.network
    raise ValueError(f"this flow map has no adapter, its network is a {type(flow.network).__name__}: make one by lora")


def layers_of(network: nn.Module) -> Iterator[Any]:
    """Iterate over the LoRA layers of a network."""
    return (part for part in network.modules() if isinstance(part, LoraLayer))


def core_of(network: nn.Module) -> nn.Module:
    """Return the pretrained model inside the networks that give it a second time."""
    inside = INSIDE.get(type(network).__name__) if _is_ours(network) else None
    return network if inside is None else core_of(network.get_submodule(inside))


INSIDE = {"Adapted": "network", "Student": "network", "Diagonal": "network", "DiffusersNetwork": "model"}
"""The attribute in which classes around a model keep it."""


def can_be_loaded_again(network: nn.Module, known: str) -> bool:
    """Tell whether the pretrained weights can be loaded again.

    Args:
        network: The network around the pretrained model.
        known: Checksum of its pretrained weights.

    Returns:
        Whether they are the weights of a folder that the description names, or the network has no description.
    """
    readers: list[Any] = [part for part in network.modules() if getattr(part, "loaded", None) and _is_ours(part)]
    try:
        describe(network)
    except TypeError:
        return True
    return any(part.loaded == known and part._arguments["folder"] for part in readers)


def _is_ours(part: nn.Module) -> bool:
    return type(part).__module__.split(".")[0] == "flowmaps"


def _zero(network: nn.Module, old: set[int]) -> list[str]:
    """Name the weights of new layers that are all zero; the output of such a layer is linear in them."""
    found = []
    for home, part in network.named_modules():
        own = dict(part.named_parameters(recurse=False))
        if own and not any(id(weight) in old or bool(weight.detach().any()) for weight in own.values()):
            found += [f"{home}.{name}".removeprefix(".") for name in own]
    return found


def _inject(core: nn.Module, layers: list[str], rank: int, alpha: float, dropout: float) -> None:
    fits = "|".join(re.escape(name) for name in layers)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=fits)  # type: ignore[arg-type]
    inject_adapter_in_model(config, core, NAME)
    for layer in layers_of(core):
        parts: tuple[Any, ...] = (layer.lora_A, layer.lora_B)
        for part in parts:
            if part[NAME].weight.dtype in (torch.bfloat16, torch.float16):
                part.float()


def _check(network: nn.Module, rank: int, alpha: float | None, dropout: float) -> None:
    if any(isinstance(part, LoraLayer) for part in network.modules()):
        raise ValueError("this network has LoRA layers already: give the flow map without them, or merge them first")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"the rank of LoRA must be a whole number of at least 1, got {rank!r}")
    if alpha is not None and not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha must be positive and finite, got {alpha}: LoRA adds weight alpha/rank B A x")
    if not 0 <= dropout < 1:
        raise ValueError(f"the dropout of LoRA must lie in [0, 1), got {dropout}")


def _leave_out(module: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Drop weights that can be loaded again from a state dict."""
    assert isinstance(module, Adapted)
    for name in module.left_out:
        state_dict.pop(prefix + name, None)
