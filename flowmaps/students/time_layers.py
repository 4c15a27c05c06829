"""The time layers of a network: the names of its time embedding and of the layers that depend on it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from ..arguments import did_you_mean
from ..networks import MLP, ConcatMLP, DiT, TokenTransformer, UNet
from .embedders import Embedder, FirstLayer, OurEmbedder


@dataclass(frozen=True)
class TimeLayers:
    """The modules of a network that depend on the time, by name; `*` stands for any single part of a name.

    A network declares them as its attribute `flow_map_places`. Only `decoupled` needs the fields from `layers` to
    `head`, except `features` and `scale`.

    Attributes:
        embedding: Modules that return the time embedding, (B, width): one, or one in each layer. They are called with
            times (B,) or (B, 1), or with the output of `features`.
        layers: Modules that depend on the time, from the input to the output.
        argument: Name of the argument of their forward that holds the embedding, or a sum with it; several names if
            layers differ; "" if each layer has its own embedding.
        features: Modules called one after the other on times (B,), before the embedding.
        scale: Factor of the times before all these modules.
        projection: Modules called one after the other on the embedding to make the argument of the layers.
        head: (module, i) if member i of a module's output is an embedding that the output layer reads.

    Raises:
        ValueError: If there is no embedding.
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
            raise ValueError("expected the name of at least one module that returns the time embedding, got none")

    def below(self, prefix: str) -> TimeLayers:
        """Return the time layers of a network that contains this one as its submodule `prefix`."""
        parts = ("embedding", "layers", "features", "projection")
        moved: dict[str, Any] = {part: [f"{prefix}.{name}" for name in getattr(self, part)] for part in parts}
        return replace(self, head=self.head and (f"{prefix}.{self.head[0]}", *self.head[1:]), **moved)

    def embedders(self, network: nn.Module) -> list[Embedder]:
        """Find the time embeddings of a network, each with its features.

        Raises:
            ValueError: If the network does not have a module, or the number of features does not match.
        """
        ends = [module for name in self.embedding for module in named(network, name)]
        before = [named(network, name) for name in self.features]
        if any(len(modules) not in (1, len(ends)) for modules in before):
            raise ValueError(f"expected one of the features {self.features}, or one for each of {len(ends)} embeddings")
        chains = [[modules[i if len(modules) > 1 else 0] for modules in before] for i in range(len(ends))]
        return [Embedder([*chain, end], self.scale) for chain, end in zip(chains, ends, strict=True)]

    def depth(self, network: nn.Module) -> int:
        """Count the layers that depend on the time; 1 if they are not named."""
        return len(self.layers_of(network)) or 1

    def layers_of(self, network: nn.Module) -> list[nn.Module]:
        """Find the layers of a network, from the input to the output."""
        return [module for name in self.layers for module in named(network, name)]

    def position(self, layer: nn.Module) -> tuple[int, str] | None:
        """Find the position and name of the embedding among the arguments of a layer.

        Returns:
            (position, name), or None if each layer has its own embedding.

        Raises:
            ValueError: If the layer takes no such argument.
        """
        if not self.argument:
            return None
        taken = list(inspect.signature(layer.forward).parameters)
        for name in self.argument:
            if name in taken:
                return taken.index(name), name
        raise ValueError(
            f"the layer {type(layer).__name__} takes no argument {' or '.join(map(repr, self.argument))}, but "
            f"{', '.join(taken)}: pass TimeLayers(argument=...) the name of the one with the time embedding"
        )


@dataclass(frozen=True)
class OurTimeLayers(TimeLayers):
    """Time layers of the networks of flowmaps. Their `conditioning` assigns times to layers.

    Attributes:
        conditioning: Name of the `Conditioning`; () for a `ConcatMLP`, which has none.
    """

    conditioning: str | Sequence[str] = ()

    def below(self, prefix: str) -> TimeLayers:
        """Return the time layers of a network that contains this one as its submodule `prefix`."""
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
        """Count the layers that depend on the time."""
        return self.shared(network).depth if self.conditioning else 1

    def shared(self, network: nn.Module) -> Any:
        """Find the `Conditioning` of the network."""
        return network.get_submodule(self.conditioning[0])


def time_layers_of(network: nn.Module) -> TimeLayers:
    """Find the time layers of a network: its attribute `flow_map_places`, or known ones of a network of flowmaps.

    Raises:
        ValueError: If the network is another one.
    """
    if isinstance(declared := getattr(network, "flow_map_places", None), TimeLayers):
        return declared
    if isinstance(network, (MLP, DiT, TokenTransformer, UNet)):
        return OurTimeLayers("conditioning.time", conditioning="conditioning")
    if isinstance(network, ConcatMLP):
        return OurTimeLayers("input")
    if inner := getattr(network, "passes_time_to", None):
        return time_layers_of(network.get_submodule(inner)).below(inner)
    if not any(True for _ in network.parameters()):
        raise ValueError(
            f"the teacher's network, {type(network).__name__}, has no weights to start a student from: give fm.teacher "
            "the nn.Module itself rather than a function around it"
        )
    parts = ", ".join(name for name, _ in network.named_children())
    raise ValueError(
        f"{type(network).__name__} does not declare its time layers: set its attribute flow_map_places, or pass "
        "places=, to students.TimeLayers(embedding='the module that returns the time embedding', ...); its parts "
        f"are {parts}"
    )


def named(network: nn.Module, pattern: str) -> list[nn.Module]:
    """Find the modules with a name that matches a pattern.

    Args:
        network: The network.
        pattern: A name; `*` stands for any single part of it.

    Returns:
        The modules, in the network's order.

    Raises:
        ValueError: If there is none.
    """
    found = [module for name, module in network.named_modules() if _matches(name.split("."), pattern.split("."))]
    if not found:
        names = [name for name, _ in network.named_modules() if name]
        hint = did_you_mean(pattern, names, cutoff=0.3)
        raise ValueError(f"{type(network).__name__} has no part {pattern!r}{hint}")
    return found


def _matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a name matches a pattern part by part; `*` is any part."""
    return len(name) == len(pattern) and all(two in ("*", one) for one, two in zip(name, pattern, strict=True))
