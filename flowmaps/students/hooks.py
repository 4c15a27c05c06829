"""The hooks by which the layers of a network are shown other times than the one it is called with."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .places import Embedder, OurPlaces, Places


class View(NamedTuple):
    """What some layers in a row see."""

    time: Tensor
    """Their first time, (B,)."""
    clock: Tensor
    """It on the network's clock."""
    new: Tensor | None
    """The new embedding of their other times and of what is told, (B, width)."""
    layers: int


class Call:
    """One forward pass: its views, the current one, and what the later views add to what the first one gave."""

    def __init__(self, views: Sequence[View]) -> None:
        self.views, self.current = views, 0
        self.on_embedding: list[Tensor] = []
        self.on_argument: list[Tensor] = []


ASIDE = Call(())
"""While the hooks themselves call a part of the network, which is to do what it always did."""


class Hooks:
    """The hooks on a network. They do nothing but while `during(call)`.

    The embedding of each call becomes E(view's time) + new, with the tamed derivative; layers behind the first view
    get E(their time) - E(s) and the difference of the new embeddings added to their argument, which is zero where the
    times are equal.
    """

    def __init__(
        self,
        network: nn.Module,
        places: Places,
        embedders: Sequence[Embedder],
        tame: nn.ModuleList | None,
        shares: Sequence[int],
        acts: bool,
    ) -> None:
        self.network, self.places, self.embedders = network, places, embedders
        self.tame = tame
        self.call: Call | None = None
        self.projection: list[nn.Module] = []
        self.adds = False
        several = len(shares) > 1
        if acts or several:
            for i, embedder in enumerate(self.embedders):
                embedder.end.register_forward_hook(functools.partial(self.embedded, i))
        if several and isinstance(places, OurPlaces):
            places.shared(network).register_forward_hook(self.shared_out)
        elif several:
            self._on_layers(shares)

    @contextmanager
    def during(self, call: Call | None) -> Iterator[None]:
        """The hooks act for this call."""
        before, self.call = self.call, call
        try:
            yield
        finally:
            self.call = before

    def start(self, call: Call) -> None:
        """What the later views add, before any layer is called (a layer that is checkpointed must find it made)."""
        if self.adds:
            call.on_embedding = [self.shift(0, view, call.views[0]) for view in call.views[1:]]
            call.on_argument = call.on_embedding

    def old(self, i: int, clock: Tensor) -> Tensor:
        """The pretrained embedding at times of the network's clock."""
        with self.during(ASIDE):
            value = self.embedders[i](clock)
        return value if self.tame is None else value.detach()

    def added(self, i: int, view: View) -> Tensor | None:
        """What the embedding gets besides the pretrained one."""
        parts = [
            part for part in (view.new, None if self.tame is None else self.tame[i](view.time)) if part is not None
        ]
        return sum(parts[1:], parts[0]) if parts else None

    def shift(self, i: int, view: View, first: View) -> Tensor:
        """The embedding of a view minus that of the first one."""
        old = self.old(i, view.clock) - self.old(i, first.clock)
        new, before = self.added(i, view), self.added(i, first)
        return old if new is None or before is None else old + (new - before).to(old.dtype)

    def embedded(self, i: int, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """E(s) + new, in the place of the network's E(s)."""
        call = self._now()
        if call is None:
            return None
        view, first = call.views[call.current], call.views[0]
        value = output if self.tame is None else output.detach()
        added = self.added(i, first if self.adds or call.current == 0 else view)
        if call.current and not isinstance(self.places, OurPlaces):  # an embedding within a layer
            value = value + (self.old(i, view.clock) - self.old(i, first.clock)).to(value.dtype)
        return value if added is None else value + added.to(value.dtype)

    def shared_out(self, module: Any, args: Any, output: list[tuple[Tensor, int]]) -> list[tuple[Tensor, int]] | None:
        """The list (embedding, layers) of a network of ours, from one call for each view."""
        if (call := self._now()) is None:
            return None
        result, start = cut(output, 0, call.views[0].layers), call.views[0].layers
        for k, view in enumerate(call.views[1:], start=1):
            call.current = k
            result += cut(module.forward(view.clock, view.clock, *args[2:]), start, view.layers)
            start += view.layers
        return result

    def _on_layers(self, shares: Sequence[int]) -> None:
        places, layers = self.places, self.places.layers_of(self.network)
        self.adds = bool(places.argument)
        if self.adds and len(self.embedders) > 1:
            raise ValueError(
                f"layers that are given the embedding need a single one, but {places.embedding} names "
                f"{len(self.embedders)}; where each layer has its own, say so as Places(argument='')"
            )
        of_layer = [k for k, count in enumerate(shares) for _ in range(count)]
        for k, layer in zip(of_layer, layers, strict=True):
            enter = functools.partial(self.enter, k, places.position(layer))
            layer.register_forward_pre_hook(enter, with_kwargs=True)
        layers[-1].register_forward_hook(self.leave)
        self.projection = [self.network.get_submodule(name) for name in places.projection]
        if self.projection:
            self.projection[0].register_forward_pre_hook(self.project)
        if places.head:
            self.network.get_submodule(places.head[0]).register_forward_hook(self.to_head)

    def enter(self, k: int, place: tuple[int, str] | None, module: nn.Module, args: Any, named: Any) -> Any:
        """A layer of view k is called: its argument is that of the first view, and what view k adds."""
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
        """The layers are done: what comes after them sees what the last one saw."""
        if self.call is not None and self.call is not ASIDE:
            self.call.current = len(self.call.views) - 1

    def project(self, module: nn.Module, args: Any) -> None:
        """The embedding of the first view on its way to the layers: that of the others goes the same way."""
        if (call := self._now()) is None:
            return
        with self.during(ASIDE):
            way = functools.partial(functools.reduce, lambda h, module: module(h), self.projection)
            before = way(args[0])
            call.on_argument = [way(args[0] + shift.to(args[0].dtype)) - before for shift in call.on_embedding]

    def to_head(self, module: nn.Module, args: Any, output: Any) -> Any:
        """The embedding that the last layer reads by itself."""
        if (call := self._now()) is None:
            return None
        member = self.places.head[1]
        return tuple(shifted(part, call.on_embedding[-1]) if i == member else part for i, part in enumerate(output))

    def _now(self) -> Call | None:
        if self.call is None and not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                "a layer of a student is computed again in the backward pass without the times of its call: give its "
                "network Student.checkpointed as the function that checkpoints its layers"
            )
        return None if self.call is ASIDE else self.call


def shifted(argument: Tensor, shift: Tensor) -> Tensor:
    """argument + shift, in the argument's shape and dtype."""
    return argument + shift.reshape(argument.shape).to(argument.dtype)


def cut(groups: list[tuple[Tensor, int]], start: int, count: int) -> list[tuple[Tensor, int]]:
    """The part of a list (embedding, layers) that belongs to `count` layers from `start` on."""
    result, end = [], 0
    for embedding, layers in groups:
        begin, end = end, end + layers
        if (kept := min(end, start + count) - max(begin, start)) > 0:
            result.append((embedding, kept))
    return result
