"""The network of a student: a pretrained network of one time whose layers see two times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..networks.embeddings import Fourier, TimeConditioning, TimeEmbedding, Times, gap
from ..networks.initialise import where_the_source_is
from ..networks.layers import by_parts, under_torch_func, zero
from ..pretrained import Reading
from ..serialise import describable
from .hooks import Call, Hooks, View
from .tame import Tame
from .time_layers import Embedder, TimeLayers, common_width, time_layers_of

UNGUIDED = {"guidance": 1.0, "guidance_from": 0.0, "guidance_to": 1.0}
"""Guidance conditions of a call that gives none: the unguided distribution."""


@describable
class Diagonal(nn.Module):
    """A network of two times as a network of one: network(x, s, s), the velocity of its flow map."""

    passes_time_to = "network"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, time: Tensor, **condition: Any) -> Tensor:
        """Evaluate network(x, time, time, **condition)."""
        return self.network(x, time, time, **condition)


@describable
class Student(nn.Module):
    """A network of one time, network(x', clock, **condition), as a network of two: student(x, s, t, **condition).

    Each layer sees its first time through the pretrained embedding. Its other times and the numeric conditions `told`
    enter through the embedding `new`, which starts at zero. The condition `guidance` enters as 1 - 1/guidance, others
    unchanged; none of them is passed on to the network. A call without guidance conditions is unguided.

    The network gets hooks and no other change: its weights keep their names, below `network.`, and called by itself it
    returns the same as before. `fm.student` makes a student of a teacher.

    Args:
        network: the network of one time.
        reading: converts x and times to the network's input. None: they are passed unchanged.
        times: which layer sees which time; s must come first.
        told: names of numeric conditions, one number for each row.
        tame: whether the derivative in time is the derivative of a smooth embedding, see `Tame`.
        places: time embedding and layers of the network. None: found by its attribute `flow_map_places` or its class.

    Raises:
        ValueError: for times that do not show s first, time layers that the network does not have, and a call without
            one of the conditions `told`.
    """

    def __init__(
        self,
        network: nn.Module,
        reading: Reading | None = None,
        times: TimeConditioning = gap,
        told: Sequence[str] = (),
        tame: bool = False,
        places: TimeLayers | None = None,
    ) -> None:
        super().__init__()
        self.network, self.reading = network, reading
        self.times, self.told = times, tuple(told)
        layers = time_layers_of(network) if places is None else places
        self.depth = layers.depth(network)
        embedders = layers.embedders(network)
        like = next(network.parameters())
        dtype = torch.promote_types(like.dtype, torch.float32)
        width = common_width(embedders, clock(reading, torch.linspace(0.25, 0.75, 3, device=like.device)))
        count = times_seen(times, self.depth) - 1 + len(self.told)
        self.new = TimeEmbedding(width, count, Fourier()).to(like.device, dtype) if count else None
        if self.new is not None:
            zero(self.new.outer)
        self.tame = nn.ModuleList(Tame(width) for _ in embedders).to(like.device, dtype) if tame else None
        shares = [count for _, count in times(0.0, 0.0, self.depth)]
        self._hooks = Hooks(network, layers, embedders, self.tame, shares, acts=tame or self.new is not None)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate V at x (B, *shape) with times s and t (B,), the conditions `told` and the network's own ones."""
        condition = {**{name: value for name, value in UNGUIDED.items() if name in self.told}, **condition}
        if missing := [name for name in self.told if name not in condition]:
            raise ValueError(
                f"this student is told {', '.join(self.told)}, but the call does not give {', '.join(missing)}: bind "
                f"it, flow.given({missing[0]}=...)"
            )
        told = tuple(number(name, condition.pop(name), s) for name in self.told)
        asked, at = (x, s) if self.reading is None else self.reading.asked(x, s)
        call = Call([self._view(seen, layers, told) for seen, layers in self.times(s, t, self.depth)])
        self._hooks.start(call)
        with self._hooks.during(call):
            return self.network(asked, at, **condition)

    def fit(self) -> None:
        """Fit the smooth embeddings to the pretrained ones and freeze these; the `Tame` modules are trained instead."""
        for smooth, embedder in zip(self.tame or (), self._hooks.embedders, strict=False):
            assert isinstance(smooth, Tame)
            smooth.fit(at_times(embedder, self.reading))
            embedder.end.requires_grad_(False)

    def checkpointed(self, layer: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        """Call layer(*inputs) and recompute it in the backward pass with the times of this call.

        Networks that checkpoint layers use it instead of torch's function.

        Args:
            layer: the layer.
            *inputs: its inputs; dual numbers are allowed.
            **named: its keyword arguments.

        Returns:
            The output of the layer.
        """
        hooks, call = self._hooks, self._hooks.call
        if not torch.is_grad_enabled() or under_torch_func():
            return layer(*inputs, **named)

        def again(*inputs: Any) -> Any:
            with hooks.during(call):
                return layer(*inputs, **named)

        of_parts, parts = by_parts(again, inputs)
        return checkpoint(of_parts, *parts, use_reentrant=False)

    def _view(self, seen: Times, layers: int, told: Times) -> View:
        time, *others = seen
        new = None if self.new is None else self.new((*others, *told))
        return View(time, clock(self.reading, time), new, layers)


def clock(reading: Reading | None, time: Tensor) -> Tensor:
    """Convert our times (B,) to the network's clock."""
    return time if reading is None else reading.asked(time, time)[1]


def at_times(embedder: Embedder, reading: Reading | None) -> Callable[[Tensor], Tensor]:
    """Return the pretrained embedding as a function of our times (n,)."""
    return lambda s: embedder(clock(reading, s))


def times_seen(times: TimeConditioning, depth: int) -> int:
    """Count the times that each layer sees.

    Args:
        times: which layer sees which time.
        depth: number of layers.

    Returns:
        The number of times.

    Raises:
        ValueError: if the first is not s on the diagonal.
    """
    position, count, shift = where_the_source_is(times, depth)
    if position or shift:
        raise ValueError(
            "the pretrained embedding must see s where s = t: times must show it first, as students.added, decoupled "
            "and source_only do"
        )
    return count


def number(name: str, value: Any, s: Tensor) -> Tensor:
    """Convert a numeric condition to the input of the new embedding.

    Args:
        name: name of the condition; "guidance" enters as 1 - 1/value.
        value: a number, or one for each row.
        s: times (B,).

    Returns:
        (B,).

    Raises:
        ValueError: for any other number of values.
    """
    value = torch.as_tensor(value, dtype=s.dtype, device=s.device).reshape(-1)
    given, rows = value.shape[0], s.shape[0]  # len would fix the number of rows of an exported program
    if given not in (1, rows):
        raise ValueError(f"{name} must be a number or one for each of the {rows} rows of x, got {given}")
    value = value.expand(rows)
    return 1 - 1 / value if name == "guidance" else value
