"""Critics made of other networks: called as critic(x, t, **condition) -> logits of data against samples at time t."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_WIDTH, between, did_you_mean, shown
from .critic import Verdict


class TimeCritic(nn.Module):
    """A network of two times as a critic: critic(x, t, **condition) -> (B,), the scaled sum of network(x, t, t).

    The last layer of the network is the last layer of the critic, so that any network of this library is one.

    Args:
        network: The network, called as network(x, s, t, **condition).

    Raises:
        TypeError: It is no module.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"a critic is made of a network, called as network(x, s, t), got {shown(network)}")
        self.network = network

    def forward(self, x: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Compute the logits (B,) of x (B, ...) at times t (B,)."""
        values = self.network(x, t, t, **condition).flatten(1)
        return values.sum(1) / values.shape[1] ** 0.5


class Heads(nn.Module):
    """Small critics on the features of a frozen network: critic(x, t, **condition) -> (B, number of layers).

    A head is a linear layer with SiLU at each position, a mean over positions, and a linear layer. The network is
    copied, stays constant, is not saved with the critic, and follows the device of x.

    Args:
        network: The network of the features, called with as many inputs as the example has: network(x), or network(x,
            t, t, **condition) for a network of two times.
        layers: Names of the modules whose outputs are the features, such as "blocks.3"; "" for the network itself.
        example: The inputs of one call, each with one row, which set the sizes of the heads.
        width: Width of a head.
        classes: Number of classes, for a network without labels; the label goes to the heads. None: the condition goes
            to the network.

    Raises:
        TypeError: The network is no module.
        ValueError: There is no layer, the network has none of this name, or the output of a layer is no tensor (B,
            channels), (B, positions, channels) or (B, channels, ...).
    """

    _frozen: nn.Module

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        example: Sequence[Tensor],
        width: int = 64,
        *,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"heads read the features of a network, got {shown(network)}")
        between(1, MOST_WIDTH, width=width)
        self.layers, self.times, self.classes = tuple(layers), len(example) - 1, classes
        if isinstance(layers, str) or not self.layers:
            raise ValueError(f"heads need a list of the names of layers, got {shown(layers)}")
        known = [name for name, _ in network.named_modules()]
        for name in self.layers:
            if name not in known:
                raise ValueError(f"the network has no layer {name!r}{did_you_mean(name, known)}")
        object.__setattr__(self, "_frozen", copy.deepcopy(network).eval().requires_grad_(False))  # not saved
        sizes = [feature.shape[-1] for feature in self.features(*example)]
        self.inputs = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.verdicts = nn.ModuleList(Verdict(width, classes) for _ in sizes)

    def forward(self, x: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Compute the logits (B, number of layers) of x (B, ...) at times t (B,)."""
        label = condition.pop("label", None) if self.classes is not None else None
        found, weight = self.features(x, *[t] * self.times, **condition), next(self.parameters())
        logits = [
            verdict(F.silu(layer(feature.to(weight))).mean(1), label)
            for layer, verdict, feature in zip(self.inputs, self.verdicts, found, strict=True)
        ]
        return torch.stack(logits, 1).to(x.dtype)

    def features(self, x: Tensor, *times: Tensor, **condition: Any) -> list[Tensor]:
        """The features of each layer, (B, positions, channels), of x (B, ...)."""
        network = self._frozen.to(x.device)
        found: dict[str, Any] = {}
        weight = next(network.parameters(), x)
        handles = [
            network.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: found.update({name: y}))
            for name in self.layers
        ]
        try:
            with torch.autocast(x.device.type, enabled=False):
                network(x.to(weight.dtype), *times, **condition)
        finally:
            for handle in handles:
                handle.remove()
        return [_positions(name, found.get(name)) for name in self.layers]


def _positions(name: str, feature: Any) -> Tensor:
    """Reshape the output of a layer to (B, positions, channels).

    Raises:
        ValueError: It is no tensor of two or more axes, or the layer was not called.
    """
    if not isinstance(feature, Tensor) or feature.ndim < 2:
        found = "nothing" if feature is None else shown(feature)
        raise ValueError(f"heads need a tensor (B, ...) from the layer {name!r}, which returned {found}")
    if feature.ndim == 3:
        return feature
    return feature.flatten(2).transpose(1, 2) if feature.ndim > 3 else feature[:, None]


def blocks_of(network: nn.Module) -> list[str]:
    """Names of the blocks of a network: the parts of its longest list of modules.

    Args:
        network: The network.

    Raises:
        ValueError: It has no list of modules.
    """
    lists = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    if not lists:
        raise ValueError(f"{type(network).__name__} has no list of blocks: name the layers of the features by layers=")
    name, longest = max(lists, key=lambda one: len(one[1]))
    return [f"{name}.{k}" for k in range(len(longest))]
