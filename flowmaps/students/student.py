"""The network of a student: a pretrained network of one time, with layers that see two times."""

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
from .embedders import Embedder, common_width
from .hooks import Call, Hooks, View
from .tame import Tame
from .time_layers import TimeLayers, time_layers_of

UNGUIDED = {"guidance": 1.0, "guidance_from": 0.0, "guidance_to": 1.0}
"""Default guidance conditions, for the unguided distribution."""


@describable
class Diagonal(nn.Module):
    """A network of two times as a network of one time: network(x, s, s), the velocity of its flow map."""

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
    enter through the embedding `new`, which starts at zero. The condition `guidance` enters as 1 - 1/guidance, the
    others unchanged; none of them is passed to the network. A call without guidance conditions is unguided.

    The network gets hooks but no other change: its weights keep their names, below `network.`, and a direct call
    returns the same as before. `fm.student` creates a student from a teacher.

    Args:
        network: The network of one time.
        reading: Converts x and times to the network's input. None: they are passed unchanged.
        times: Which layer sees which time; s must come first.
        told: Names of additional numeric conditions, one number for each row.
        tame: Whether the derivative in time is the derivative of a smooth embedding, see `Tame`.
        places: Time embedding and layers of the network. None: found by its attribute `flow_map_places` or its class.

    Raises:
        ValueError: If `times` does not have s first, or the network does not have the time layers. A call raises it if
            a condition in `told` is missing.
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

    @property
    def frame_axis(self) -> int | None:
        """Axis of x along which times may differ, the network's own."""
        return getattr(self.network, "frame_axis", None)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate V at x (B, *shape), with the conditions in `told` and the network's own ones.

        Times s and t are (B,), or (B, F) for the frames of a network with a `frame_axis`.
        """
        condition = {**{name: value for name, value in UNGUIDED.items() if name in self.told}, **condition}
        if missing := [name for name in self.told if name not in condition]:
            raise ValueError(
                f"this student needs the conditions {', '.join(self.told)}, but {', '.join(missing)} is missing: bind "
                f"it, flow.given({missing[0]}=...)"
            )
        numbers = tuple(number(name, condition.pop(name), s) for name in self.told)
        state, time = (x, s) if self.reading is None else self.reading.asked(x, self._beside(s, x))
        call = Call([self._view(seen, layers, numbers) for seen, layers in self.times(s, t, self.depth)])
        self._hooks.start(call)
        with self._hooks.during(call):
            return self.network(state, time, **condition)

    def fit(self) -> None:
        """Fit the smooth embeddings to the pretrained ones, and freeze the pretrained ones."""
        for smooth, embedder in zip(self.tame or (), self._hooks.embedders, strict=False):
            assert isinstance(smooth, Tame)
            smooth.fit(at_times(embedder, self.reading))
            embedder.end.requires_grad_(False)

    def checkpointed(self, layer: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        """Call layer(*inputs) and recompute it in the backward pass with the times of this call.

        Networks with checkpointed layers call it instead of torch's function.

        Args:
            layer: The layer.
            *inputs: Its inputs; dual numbers are allowed.
            **named: Its keyword arguments.

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

    def _beside(self, s: Tensor, x: Tensor) -> Tensor:
        """The times as (B,), or (B, F) as (B, 1, ..., F, ..., 1)."""
        if s.ndim == 1:
            return s
        return s.reshape([x.shape[k] if k in (0, self.frame_axis) else 1 for k in range(x.ndim)])

    def _view(self, seen: Times, layers: int, numbers: Times) -> View:
        """Create the view of some layers from their times and the numeric conditions."""
        time, *others = seen
        new = None if self.new is None else self.new((*others, *numbers))
        return View(time, clock(self.reading, time), new, layers)


def clock(reading: Reading | None, time: Tensor) -> Tensor:
    """Convert times (B,) or (B, F) of the flow map to the network's clock."""
    return time if reading is None else reading.asked(time, time)[1]


def at_times(embedder: Embedder, reading: Reading | None) -> Callable[[Tensor], Tensor]:
    """Return the pretrained embedding as a function of times (n,) of the flow map."""
    return lambda s: embedder(clock(reading, s))


def times_seen(times: TimeConditioning, depth: int) -> int:
    """Count the times that each layer sees.

    Args:
        times: Which layer sees which time.
        depth: Number of layers.

    Returns:
        The number of times.

    Raises:
        ValueError: If the first one is not s on the diagonal.
    """
    position, count, shift = where_the_source_is(times, depth)
    if position or shift:
        raise ValueError(
            "the pretrained embedding must get s if s = t: the first time of each layer must be s, as in "
            "students.added, decoupled and source_only"
        )
    return count


def number(name: str, value: Any, s: Tensor) -> Tensor:
    """Convert a numeric condition to an input (B,) of the new embedding.

    Args:
        name: Name of the condition; "guidance" enters as 1 - 1/value.
        value: A number, or one for each row.
        s: Times (B,), or (B, F) of frames.

    Returns:
        Its value for each time, of the shape of s.

    Raises:
        ValueError: If there is another number of values.
    """
    value = torch.as_tensor(value, dtype=s.dtype, device=s.device).reshape(-1)
    given, rows = value.shape[0], s.shape[0]  # len would fix the number of rows of an exported program
    if given not in (1, rows):
        raise ValueError(f"{name} must be a number or one for each of the {rows} rows of x, got {given}")
    value = value.expand(rows)
    value = value if s.ndim == 1 else value[:, None].expand(s.shape)
    return 1 - 1 / value if name == "guidance" else value
