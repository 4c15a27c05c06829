"""Hooks that show the layers of a network other times than the one it is called with."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .time_layers import Embedder, OurTimeLayers, TimeLayers


class View(NamedTuple):
    """The times of some consecutive layers."""

    time: Tensor
    """Their first time, (B,)."""
    clock: Tensor
    """The first time on the network's clock, (B,)."""
    new: Tensor | None
    """The new embedding of their other times and of the numeric conditions, (B, width)."""
    layers: int
    """The number of layers."""


class Call:
    """The state of one forward pass: its views, the index of the current one, and the shifts of the later views.

    Args:
        views: the views, from the input to the output.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.views, self.current = views, 0
        self.on_embedding: list[Tensor] = []
        self.on_argument: list[Tensor] = []


ASIDE = Call(())
"""The call during which hooks do nothing, because they call a part of the network themselves."""


class Hooks:
    """The hooks on a network, active only within `during(call)`.

    The embedding of each call becomes E(view's time) + new, with the smooth derivative. Layers after the first view
    get E(their time) - E(s), plus the difference of the new embeddings, added to their argument; this is zero where the
    times are equal.

    Args:
        network: the network.
        layers: its time layers.
        embedders: its time embeddings.
        tame: the smooth embeddings, one for each embedding. None: the pretrained derivative.
        shares: number of layers of each view.
        acts: whether the embedding changes even if there is a single view.
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
            self._on_layers(shares)

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

    def old(self, i: int, clock: Tensor) -> Tensor:
        """Evaluate the i-th pretrained embedding at times (B,) on the network's clock: (B, width)."""
        with self.during(ASIDE):
            value = self.embedders[i](clock)
        return value if self.tame is None else value.detach()

    def added(self, i: int, view: View) -> Tensor | None:
        """Sum the new and smooth embeddings of a view, to be added to the i-th pretrained one; None if absent."""
        parts = [
            part for part in (view.new, None if self.tame is None else self.tame[i](view.time)) if part is not None
        ]
        return sum(parts[1:], parts[0]) if parts else None

    def shift(self, i: int, view: View, first: View) -> Tensor:
        """Compute the i-th embedding of a view minus the embedding of the first view, (B, width)."""
        old = self.old(i, view.clock) - self.old(i, first.clock)
        new, before = self.added(i, view), self.added(i, first)
        return old if new is None or before is None else old + (new - before).to(old.dtype)

    def embedded(self, i: int, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """Forward hook of an embedding: replace the network's E(s) by E(s) + new."""
        call = self._now()
        if call is None:
            return None
        view, first = call.views[call.current], call.views[0]
        value = output if self.tame is None else output.detach()
        added = self.added(i, first if self.adds or call.current == 0 else view)
        if call.current and not isinstance(self.layers, OurTimeLayers):  # an embedding within a layer
            value = value + (self.old(i, view.clock) - self.old(i, first.clock)).to(value.dtype)
        return value if added is None else value + added.to(value.dtype)

    def shared_out(self, module: Any, args: Any, output: list[tuple[Tensor, int]]) -> list[tuple[Tensor, int]] | None:
        """Forward hook of our `Conditioning`: join its list (embedding, layers) from one call for each view."""
        if (call := self._now()) is None:
            return None
        result, start = cut(output, 0, call.views[0].layers), call.views[0].layers
        for k, view in enumerate(call.views[1:], start=1):
            call.current = k
            result += cut(module.forward(view.clock, view.clock, *args[2:]), start, view.layers)
            start += view.layers
        return result

    def _on_layers(self, shares: Sequence[int]) -> None:
        names, modules = self.layers, self.layers.layers_of(self.network)
        self.adds = bool(names.argument)
        if self.adds and len(self.embedders) > 1:
            raise ValueError(
                f"layers that are given the embedding need a single one, but {names.embedding} names "
                f"{len(self.embedders)}; if each layer has its own, say so by TimeLayers(argument='')"
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
            k: index of the view.
            place: position and name of the embedding among the arguments. None: the layer takes none.
            module: the layer.
            args: its arguments.
            named: its keyword arguments.

        Returns:
            The changed arguments, or None if they stay.
        """
        if (call := self._now()) is None:
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
        """Forward hook of the last layer: everything after it sees the last view."""
        if self.call is not None and self.call is not ASIDE:
            self.call.current = len(self.call.views) - 1

    def project(self, module: nn.Module, args: Any) -> None:
        """Pre-hook of the projection: project the shifts of the later views too."""
        if (call := self._now()) is None:
            return
        with self.during(ASIDE):
            way = functools.partial(functools.reduce, lambda h, module: module(h), self.projection)
            before = way(args[0])
            call.on_argument = [way(args[0] + shift.to(args[0].dtype)) - before for shift in call.on_embedding]

    def to_head(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Forward hook of `head`: shift the embedding that the output layer reads."""
        if (call := self._now()) is None:
            return None
        member = self.layers.head[1]
        return tuple(shifted(part, call.on_embedding[-1]) if i == member else part for i, part in enumerate(output))

    def _now(self) -> Call | None:
        if self.call is None and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                "a layer of a student is computed again in the backward pass without the times of its call: give its "
                "network Student.checkpointed as the function that checkpoints its layers"
            )
        return None if self.call is ASIDE else self.call


def shifted(argument: Tensor, shift: Tensor) -> Tensor:
    """Compute argument + shift, in the argument's shape and dtype."""
    return argument + shift.reshape(argument.shape).to(argument.dtype)


def cut(groups: list[tuple[Tensor, int]], start: int, count: int) -> list[tuple[Tensor, int]]:
    """Cut a list (embedding, layers) to some of the layers.

    Args:
        groups: embeddings with numbers of consecutive layers.
        start: index of the first layer.
        count: number of layers.

    Returns:
        The list for these layers.
    """
    result, end = [], 0
    for embedding, layers in groups:
        begin, end = end, end + layers
        if (kept := min(end, start + count) - max(begin, start)) > 0:
            result.append((embedding, kept))
    return result
