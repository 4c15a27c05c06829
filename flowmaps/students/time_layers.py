"""The time layers of a network: the names of its time embedding and of the layers that see it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import did_you_mean
from ..networks import MLP, ConcatMLP, DiT, InBasis, UNet
from ..networks.embeddings import time_features


@dataclass(frozen=True)
class TimeLayers:
    """The modules of a network that read the time, by name; `*` stands for any one part of a name.

    A network declares them as its attribute `flow_map_places`. Only `decoupled` needs the fields from `layers` to
    `head`, except `features` and `scale`.

    Attributes:
        embedding: modules whose output is the time embedding, (B, width): one, or one in each layer. They are called
            with times (B,) or (B, 1), or with the output of `features`.
        layers: modules that see the time, from the input to the output.
        argument: name of the argument of their forward that holds the embedding, or a sum with it; several names if
            layers differ; "" if each layer has its own embedding.
        features: modules called one after the other on times (B,), before the embedding.
        scale: factor of the times before all these modules.
        projection: modules called one after the other on the embedding to make the argument of the layers.
        head: (module, i) if member i of a module's output is an embedding that the output layer reads.

    Raises:
        ValueError: without an embedding.
    """

    embedding: str | Sequence[str]
    layers: str | Sequence[str] = ()
    argument: str | Sequence[str] = "temb"
    features: str | Sequence[str] = ()
    scale: float = 1.0
    projection: str | Sequence[str] = ()
    head: Sequence[Any] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "scale":
                names = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, field.name, tuple(name for name in names if name != ""))
        if not self.embedding:
            raise ValueError("expected the name of at least one module whose output is the time embedding, got none")

    def below(self, prefix: str) -> TimeLayers:
        """Return the same time layers for a network that is the submodule `prefix` of another one."""
        parts = ("embedding", "layers", "features", "projection")
        moved: dict[str, Any] = {part: [f"{prefix}.{name}" for name in getattr(self, part)] for part in parts}
        return replace(self, head=self.head and (f"{prefix}.{self.head[0]}", *self.head[1:]), **moved)

    def embedders(self, network: nn.Module) -> list[Embedder]:
        """Find the time embeddings of a network, each with its features.

        Raises:
            ValueError: for modules that it does not have, and for a number of features that does not match.
        """
        ends = [module for name in self.embedding for module in named(network, name)]
        before = [named(network, name) for name in self.features]
        if any(len(modules) not in (1, len(ends)) for modules in before):
            raise ValueError(f"expected one of the features {self.features}, or one for each of {len(ends)} embeddings")
        chains = [[modules[i if len(modules) > 1 else 0] for modules in before] for i in range(len(ends))]
        return [Embedder([*chain, end], self.scale) for chain, end in zip(chains, ends, strict=True)]

    def depth(self, network: nn.Module) -> int:
        """Count the layers that see the time; 1 if they are not named."""
        return len(self.layers_of(network)) or 1

    def layers_of(self, network: nn.Module) -> list[nn.Module]:
        """Find the layers of a network, from the input to the output."""
        return [module for name in self.layers for module in named(network, name)]

    def position(self, layer: nn.Module) -> tuple[int, str] | None:
        """Find the position and name of the embedding among the arguments of a layer.

        Returns:
            (position, name), or None if each layer has its own embedding.

        Raises:
            ValueError: if the layer takes no such argument.
        """
        if not self.argument:
            return None
        taken = list(inspect.signature(layer.forward).parameters)
        for name in self.argument:
            if name in taken:
                return taken.index(name), name
        raise ValueError(
            f"the layer {type(layer).__name__} takes no argument {' or '.join(map(repr, self.argument))}, but "
            f"{', '.join(taken)}: give TimeLayers(argument=...) the name of the one that holds the time embedding"
        )


@dataclass(frozen=True)
class OurTimeLayers(TimeLayers):
    """Time layers of the networks of flowmaps, whose `conditioning` itself assigns times to layers.

    Attributes:
        conditioning: name of the `Conditioning`; () for a `ConcatMLP`, which has none.
    """

    conditioning: str | Sequence[str] = ()

    def below(self, prefix: str) -> TimeLayers:
        """Return the same time layers for a network that is the submodule `prefix` of another one."""
        return replace(super().below(prefix), conditioning=[f"{prefix}.{name}" for name in self.conditioning])  # type: ignore[call-arg]

    def embedders(self, network: nn.Module) -> list[Embedder]:
        """Return the one time embedding of the network."""
        name = self.embedding[0]
        if self.conditioning:
            return [OurEmbedder(network.get_submodule(name), self.shared(network))]
        owner = network.get_submodule(name.rpartition(".")[0])
        assert isinstance(owner, ConcatMLP)
        return [FirstLayer(owner)]

    def depth(self, network: nn.Module) -> int:
        """Count the layers that see the time."""
        return self.shared(network).depth if self.conditioning else 1

    def shared(self, network: nn.Module) -> Any:
        """Find the `Conditioning` of the network."""
        return network.get_submodule(self.conditioning[0])


class Embedder:
    """One time embedding of a network: modules called one after the other.

    Args:
        modules: the modules; the last one is `end`.
        scale: factor of the times.
    """

    def __init__(self, modules: Sequence[nn.Module], scale: float) -> None:
        self.modules, self.scale = list(modules), scale
        self.as_column = False

    @property
    def end(self) -> nn.Module:
        """The module whose output is the embedding."""
        return self.modules[-1]

    def __call__(self, time: Tensor) -> Tensor:
        """Evaluate the embedding at times (B,) on the network's clock: (B, width)."""
        h = time if self.scale == 1.0 else time * self.scale
        h = h[:, None] if self.as_column else h
        for module in self.modules:
            h = module(h.to(dtype_of(module, h)))
        return h

    @torch.no_grad()
    def width(self, time: Tensor) -> int:
        """Find the width of the embedding by a trial at times (n,).

        Raises:
            ValueError: if it cannot be called with times.
        """
        reasons = []
        for self.as_column in (False, True):
            try:
                value = self(time)
            except Exception as error:
                reasons.append(str(error).partition("\n")[0])
                continue
            if isinstance(value, Tensor) and value.ndim == 2 and len(value) == len(time):
                return value.shape[-1]
            reasons.append(f"it returned {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}")
        raise ValueError(
            f"the time embedding {type(self.end).__name__} cannot be called on times (B,) to give (B, width): "
            f"{'; '.join(dict.fromkeys(reasons))}. If other modules come before it, name them by "
            "TimeLayers(features=...)"
        )


class OurEmbedder(Embedder):
    """The `TimeEmbedding` of a network of flowmaps, on the diagonal s = t.

    Args:
        end: the `TimeEmbedding`.
        conditioning: the `Conditioning` around it.
    """

    def __init__(self, end: nn.Module, conditioning: Any) -> None:
        super().__init__([end], 1.0)
        self.conditioning = conditioning

    def __call__(self, time: Tensor) -> Tensor:
        """Evaluate the embedding at s = t = time (B,): (B, width)."""
        return self.end(self.conditioning.times(time, time, self.conditioning.depth)[0][0])


class FirstLayer(Embedder):
    """The contribution of the times to the first layer of a `ConcatMLP`."""

    def __init__(self, network: ConcatMLP) -> None:
        super().__init__([network.input], 1.0)
        self.network = network

    def __call__(self, time: Tensor) -> Tensor:
        """Evaluate the first layer at x = 0 and s = t = time (B,): (B, width)."""
        [(seen, _)] = self.network.times(time, time, 1)
        weight = self.network.input.weight
        x = torch.zeros(len(time), self.network.input.sizes[-1], dtype=weight.dtype, device=weight.device)
        return self.network.input(*(time_features(self.network.features, time) for time in seen), x)


def common_width(embedders: Sequence[Embedder], time: Tensor) -> int:
    """Find the width of all embeddings of a network by a trial.

    Args:
        embedders: the embeddings.
        time: times (n,) on the network's clock.

    Returns:
        The width.

    Raises:
        ValueError: if they differ.
    """
    widths = sorted({embedder.width(time) for embedder in embedders})
    if len(widths) > 1:
        raise ValueError(f"the time embeddings of a network must have one width, got {widths}")
    return widths[0]


def dtype_of(module: nn.Module, like: Tensor) -> torch.dtype:
    """Return the dtype of a module's weights; the dtype of `like` if it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), like.dtype)


def time_layers_of(network: nn.Module) -> TimeLayers:
    """Find the time layers of a network: its attribute `flow_map_places`, or known ones of a network of flowmaps.

    Raises:
        ValueError: for any other network.
    """
    if isinstance(declared := getattr(network, "flow_map_places", None), TimeLayers):
        return declared
    if isinstance(network, (MLP, DiT, UNet)):
        return OurTimeLayers("conditioning.time", conditioning="conditioning")
    if isinstance(network, ConcatMLP):
        return OurTimeLayers("input")
    if isinstance(network, InBasis) or hasattr(network, "passes_time_to"):
        inner = getattr(network, "passes_time_to", "network")
        return time_layers_of(network.get_submodule(inner)).below(inner)
    if not any(True for _ in network.parameters()):
        raise ValueError(
            f"the teacher's network, {type(network).__name__}, has no weights to start a student from: give fm.teacher "
            "the nn.Module itself rather than a function around it"
        )
    parts = ", ".join(name for name, _ in network.named_children())
    raise ValueError(
        f"{type(network).__name__} does not declare its time layers: set its attribute flow_map_places, or pass "
        "places=, to students.TimeLayers(embedding='the module whose output is the time embedding', ...); its parts "
        f"are {parts}"
    )


def named(network: nn.Module, pattern: str) -> list[nn.Module]:
    """Find the modules whose name matches a pattern.

    Args:
        network: the network.
        pattern: a name; `*` stands for any one part of it.

    Returns:
        The modules, in the network's order.

    Raises:
        ValueError: if there is none.
    """
    expression = re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))
    found = [module for name, module in network.named_modules() if expression.fullmatch(name)]
    if not found:
        names = [name for name, _ in network.named_modules() if name]
        hint = did_you_mean(pattern, names, cutoff=0.3)
        raise ValueError(f"{type(network).__name__} has no part {pattern!r}{hint}")
    return found
