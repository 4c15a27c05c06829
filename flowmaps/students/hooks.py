"""Hooks that give the layers of a network other times than the one in the call."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .embedders import Embedder
from .time_layers import OurTimeLayers, TimeLayers


class View(NamedTuple):
    """The times of some consecutive layers."""

    time: Tensor
    """Their first time, (B,), or (B, F) for frames."""
    clock: Tensor
    """The first time on the network's clock, likewise."""
    new: Tensor | None
    """The new embedding of their other times and of the numeric conditions, (B, width) or (B, F, width)."""
    layers: int
    """The number of layers."""


class Call:
    """The state of one forward pass: its views, the index of the current one, and the shifts of the later views.

    Args:
        views: The views, from the input to the output.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.views, self.current = views, 0
        self.on_embedding: list[Tensor] = []
        self.on_argument: list[Tensor] = []


INACTIVE = Call(())
"""The call during which hooks do nothing, because they evaluate parts of the network."""


class Hooks:
    """The hooks on a network, active only within `during(call)`.

    The embedding of each call becomes E(view's time) + new, with the smooth derivative. In layers of the later views,
    E(their time) - E(s) plus the difference of the new embeddings is added to the argument; this is zero if the times
    are equal.

    Args:
        network: The network.
        layers: Its time layers.
        embedders: Its time embeddings.
        tame: The smooth embeddings, one for each embedding. None: the pretrained derivative.
        shares: Number of layers of each view.
        acts: Whether the hooks change the embedding even for a single view.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: TimeLayers,
        embedders: Sequence[Embedder],
        tame: nn.ModuleList | None,
        shares: Sequence[int],
        acts: bool,
    ) -> None:
        self.network, self.layers, self.embedders = network, layers, embedders
        self.tame = tame
        self.call: Call | None = None
        self.projection: list[nn.Module] = []
        self.adds = False
        several = len(shares) > 1
        if acts or several:
            for i, embedder in enumerate(self.embedders):
                embedder.end.register_forward_hook(functools.partial(self.embedded, i))
        if several and isinstance(layers, OurTimeLayers):
            layers.shared(network).register_forward_hook(self.shared_out)
        elif several:
            self._register_on_layers(shares)

    @contextmanager
    def during(self, call: Call | None) -> Iterator[None]:
        """Activate the hooks for a call."""
        before, self.call = self.call, call
        try:
            yield
        finally:
            self.call = before

    def start(self, call: Call) -> None:
        """Compute the shifts of the later views before any layer is called, so that checkpointed layers find them."""
        if self.adds:
            call.on_embedding = [self.shift(0, view, call.views[0]) for view in call.views[1:]]
            call.on_argument = call.on_embedding

    def pretrained(self, i: int, clock: Tensor) -> Tensor:
        """Evaluate the i-th pretrained embedding at times (B,) or (B, F) on the network's clock: one more axis."""
        with self.during(INACTIVE):
            value = self.embedders[i](clock.flatten())
            value = value if clock.ndim == 1 else value.unflatten(0, clock.shape)
        return value if self.tame is None else value.detach()

    def added(self, i: int, view: View) -> Tensor | None:
        """Add the new and the smooth embedding of a view, for the i-th pretrained one; None if both are absent."""
        parts = [
            part for part in (view.new, None if self.tame is None else self.tame[i](view.time)) if part is not None
        ]
        return sum(parts[1:], parts[0]) if parts else None

    def shift(self, i: int, view: View, first: View) -> Tensor:
        """Compute the i-th embedding of a view minus the embedding of the first view, (B, width)."""
        old = self.pretrained(i, view.clock) - self.pretrained(i, first.clock)
        new, before = self.added(i, view), self.added(i, first)
        return old if new is None or before is None else old + (new - before).to(old.dtype)

    def embedded(self, i: int, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Forward hook of an embedding: replace the network's E(s) by E(s) + new."""
        call = self._current_call()
        if call is None:
            return None
        view, first = call.views[call.current], call.views[0]
        value = output if self.tame is None else output.detach()
        added = self.added(i, first if self.adds or call.current == 0 else view)
        if call.current and not isinstance(self.layers, OurTimeLayers):  # an embedding within a layer
            old = self.pretrained(i, view.clock) - self.pretrained(i, first.clock)
            value = value + over_tokens(old, value).to(value.dtype)
        return value if added is None else value + over_tokens(added, value).to(value.dtype)

    def shared_out(self, module: Any, args: Any, output: list[tuple[Tensor, int]]) -> list[tuple[Tensor, int]] | None:
        """Forward hook of the `Conditioning` of flowmaps: join its lists (embedding, layers) for all views."""
        if (call := self._current_call()) is None:
            return None
        result, start = cut(output, 0, call.views[0].layers), call.views[0].layers
        for k, view in enumerate(call.views[1:], start=1):
            call.current = k
            result += cut(module.forward(view.clock, view.clock, *args[2:]), start, view.layers)
            start += view.layers
        return result

    def _register_on_layers(self, shares: Sequence[int]) -> None:
        """Register the hooks of layers that get the embedding as an argument, or have one each."""
        names, modules = self.layers, self.layers.layers_of(self.network)
        self.adds = bool(names.argument)
        if self.adds and len(self.embedders) > 1:
            raise ValueError(
                f"layers with the embedding as an argument need a single embedding, but {names.embedding} names "
                f"{len(self.embedders)}; if each layer has its own, pass TimeLayers(argument='')"
            )
        of_layer = [k for k, count in enumerate(shares) for _ in range(count)]
        for k, layer in zip(of_layer, modules, strict=True):
            enter = functools.partial(self.enter, k, names.position(layer))
            layer.register_forward_pre_hook(enter, with_kwargs=True)
        modules[-1].register_forward_hook(self.leave)
        self.projection = [self.network.get_submodule(name) for name in names.projection]
        if self.projection:
            self.projection[0].register_forward_pre_hook(self.project)
        if names.head:
            self.network.get_submodule(names.head[0]).register_forward_hook(self.to_head)

    def enter(self, k: int, place: tuple[int, str] | None, module: nn.Module, args: Any, named: Any) -> Any:
        """Pre-hook of a layer of view k: add the shift of view k to its argument.

        Args:
            k: Index of the view.
            place: Position and name of the embedding among the arguments. None: it is not an argument.
            module: The layer.
            args: Its arguments.
            named: Its keyword arguments.

        Returns:
            The changed arguments, or None if they are unchanged.
        """
        if (call := self._current_call()) is None:
            return None
        call.current = k
        if k == 0 or place is None:
            return None
        position, name = place
        if name in named:
            return args, {**named, name: shifted(named[name], call.on_argument[k - 1])}
        given = shifted(args[position], call.on_argument[k - 1])
        return (*args[:position], given, *args[position + 1 :]), named

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook of the last layer: modules after it get the last view."""
        if self.call is not None and self.call is not INACTIVE:
            self.call.current = len(self.call.views) - 1

    def project(self, module: nn.Module, args: Any) -> None:
        """Pre-hook of the projection: compute the projected shifts of the later views."""
        if (call := self._current_call()) is None:
            return
        with self.during(INACTIVE):
            projection = functools.partial(functools.reduce, lambda h, module: module(h), self.projection)
            before = projection(args[0])
            shifts = [over_tokens(shift, args[0]).to(args[0].dtype) for shift in call.on_embedding]
            call.on_argument = [projection(args[0] + shift) - before for shift in shifts]

    def to_head(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook of `head`: shift the embedding that the output layer reads."""
        if (call := self._current_call()) is None:
            return None
        member = self.layers.head[1]
        return tuple(shifted(part, call.on_embedding[-1]) if i == member else part for i, part in enumerate(output))

    def _current_call(self) -> Call | None:
        """Return the running call, or None while the hooks are inactive."""
        if self.call is None and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                "a layer of a student is computed again in the backward pass without the times of its call: set "
                "Student.checkpointed as the checkpoint function of its network"
            )
        return None if self.call is INACTIVE else self.call


def shifted(argument: Tensor, shift: Tensor) -> Tensor:
    """Compute argument + shift, in the argument's shape and dtype."""
    return argument + over_tokens(shift, argument).reshape(argument.shape).to(argument.dtype)


def over_tokens(embedding: Tensor, like: Tensor) -> Tensor:
    """Repeat an embedding of frames over their tokens, which follow one another frame by frame.

    Args:
        embedding: The embedding, (B, F, width); any other is returned unchanged.
        like: An input of a layer, (B, tokens, ...).

    Returns:
        The embedding, (B, tokens, width).
    """
    if embedding.ndim != 3 or embedding.shape[1] == like.shape[1]:
        return embedding
    each = like.shape[1] // embedding.shape[1]
    return embedding[:, :, None].expand(-1, -1, each, -1).flatten(1, 2)


def cut(groups: list[tuple[Tensor, int]], start: int, count: int) -> list[tuple[Tensor, int]]:
    """Cut a list (embedding, layers) to some of the layers.

    Args:
        groups: Embeddings with numbers of consecutive layers.
        start: Index of the first layer.
        count: Number of layers.

    Returns:
        The list for these layers.
    """
    result, end = [], 0
    for embedding, layers in groups:
        begin, end = end, end + layers
        if (kept := min(end, start + count) - max(begin, start)) > 0:
            result.append((embedding, kept))
    return result
