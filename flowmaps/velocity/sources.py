"""Velocity sources without their own weights, and teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..arguments import brief_repr, refuse_written, version
from ..draws import Rows
from ..flow_map import FlowMap, Linked
from ..path import Path, Time, expand, linear


class Teacher(Protocol):
    """Any object with a velocity."""

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity v(x, t), of x's shape; the rules give t as (B, 1, ..., 1), which broadcasts against x."""
        ...


@dataclass(frozen=True)
class Pair:
    """One draw of a training step: data, noise, condition and times.

    Attributes:
        x0: Data (B, ...).
        eps: Noise of the same shape.
        path: The path between them.
        condition: Keyword arguments of the network by name; tensors have B rows or none.
        s: Source times, (B,), or per frame as `path.expand_frames` returns them.
        t: Target times, likewise.
        numbers: Random numbers of the rule, by the name of its option.
        rows: Rows of the batch that the pair holds.
    """

    x0: Tensor
    eps: Tensor
    path: Path
    condition: dict[str, Any]
    s: Tensor = field(default_factory=lambda: torch.empty(0))
    t: Tensor = field(default_factory=lambda: torch.empty(0))
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Rows = Rows()

    __repr__ = brief_repr


VelocitySource = Callable[[FlowMap, Pair], Any]
"""(flow, pair) -> teacher."""


@dataclass(frozen=True)
class Conditional:
    """Conditional velocity of one pair as a teacher: alpha'(t) x_0 + sigma'(t) eps, independent of x."""

    pair: Pair
    conditional: ClassVar[bool] = True

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Conditional velocity at time t, of x's shape."""
        return self.pair.path.velocity(self.pair.x0, self.pair.eps, t)

    def __call__(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Jump along the pair's own path, x + (alpha_t - alpha_s) x_0 + (sigma_t - sigma_s) eps; x is on it."""
        path, s, t = self.pair.path, expand(s, x), expand(t, x)
        if path.curved:
            return path.interpolate(self.pair.x0, self.pair.eps, t)
        chord = path.alpha_slope(s, t) * self.pair.x0 + path.sigma_slope(s, t) * self.pair.eps
        return x + ((t - s) * chord).to(x.dtype)


def is_conditional(source: object) -> bool:
    """Whether a velocity source or a teacher is the conditional velocity."""
    return bool(getattr(source, "conditional", False))


def conditional(flow: FlowMap, pair: Pair) -> Conditional:
    """Velocity source: the conditional velocity u = alpha'(s) x_0 + sigma'(s) eps.

    Its mean given x_s is v(x_s, s), the marginalisation trick of diffusion training.
    """
    return Conditional(pair)


conditional.conditional = True  # type: ignore[attr-defined]


def own(flow: FlowMap, pair: Pair) -> FlowMap:
    """Velocity source: the flow itself, with gradients to its weights."""
    return flow


def frozen(flow: FlowMap, pair: Pair) -> FlowMap:
    """Velocity source: the flow with constant weights. Gradients pass through x, s and t only.

    For no gradient at all use `stop`.
    """
    return constant(flow)


def constant(teacher: Any) -> Any:
    """Return a FlowMap, or a teacher made of FlowMaps, with constant weights; other teachers are returned unchanged."""
    if not isinstance(teacher, FlowMap):
        return teacher.with_constant_weights() if hasattr(teacher, "with_constant_weights") else teacher
    weights = teacher.weights
    if isinstance(weights, Linked):
        fixed = teacher.around(Linked(_constant(weights.network), _constant(weights.link)))
    else:
        fixed = teacher.around(_constant(weights))
    # a prepared condition depends on the weights too
    fixed.condition = {name: _without_graph(value) for name, value in teacher.condition.items()}
    return fixed


def _without_graph(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def _constant(module: nn.Module) -> Constant:
    return Constant(module, {k: w.detach() for k, w in module.named_parameters()})


@dataclass(frozen=True)
class Constant:
    """A network with constant weights: gradients pass through its inputs alone.

    Args:
        module: The network.
        weights: Its weights, detached.
    """

    module: nn.Module
    weights: Mapping[str, Tensor]

    def __getattr__(self, name: str) -> Any:
        # descriptions of a link or a network, which use no weights; not methods of copying
        if name in ("reshapes", "logits", "frame_axis"):
            return getattr(self.module, name)
        raise AttributeError(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Evaluate the network."""
        return torch.func.functional_call(self.module, dict(self.weights), args, kwargs)


@dataclass(frozen=True)
class Fixed:
    """Velocity source: a given teacher.

    Args:
        teacher: Any object with velocity(x, t). It is bound to the condition if it has `given`. A FlowMap's weights are
            constants.

    Raises:
        TypeError: The teacher has no velocity.
    """

    teacher: Any

    def __post_init__(self) -> None:
        if not callable(getattr(self.teacher, "velocity", None)) or isinstance(self.teacher, type):
            raise TypeError(
                "a distillation method needs teacher=, a FlowMap or any object with velocity(x, t); "
                + ("none was given" if self.teacher is None else f"{type(self.teacher).__name__} has no such method")
            )

    def __call__(self, flow: FlowMap, pair: Pair) -> Any:
        """Bind the teacher to the condition. Raises ValueError if it is the flow itself, or on another path."""
        teacher, path = self.teacher, getattr(self.teacher, "path", None)
        if teacher is flow or getattr(teacher, "network", self) is getattr(flow, "network", None):
            raise ValueError(
                "the teacher is the flow map in training itself, so it would learn nothing new: give a "
                "copy, copy.deepcopy(flow), or take a method of self-distillation, which needs no teacher"
            )
        if isinstance(path, Path) and path != pair.path:
            raise ValueError(f"the teacher is on the path {path}, but the flow map on {pair.path}: both need the same")
        if pair.condition and hasattr(teacher, "given"):
            teacher = teacher.given(**pair.condition)
        if isinstance(teacher, FlowMap):
            with torch.no_grad():
                teacher = teacher.prepared()
        return Checked(constant(teacher), pair.path)


@dataclass(frozen=True)
class Checked:
    """Teacher with checked shapes. If it has no average velocity, its jumps are single Euler steps."""

    teacher: Any
    path: Path | None = None

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity v(x, t). Raises ValueError if it does not have x's shape."""
        return _checked_call(self.teacher.velocity, x, t)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Average velocity V(x, s, t). Raises ValueError if it does not have x's shape."""
        jumps = getattr(self.teacher, "average_velocity", None)
        return self.velocity(x, s) if jumps is None else _checked_call(jumps, x, s, t)

    def field(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Denoised field D(x, s, t), the teacher's own or the one of its average velocity."""
        if hasattr(self.teacher, "field"):
            return _checked_call(self.teacher.field, x, s, t)
        return field_of(self, x, s, t, self.path)

    def __call__(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Jump F(x, s, t)."""
        return (self.path or linear).move(x, (expand(t, x) - expand(s, x)) * self.average_velocity(x, s, t))


def field_of(teacher: Any, x: Tensor, s: Time, t: Time, path: Path | None = None) -> Tensor:
    """Denoised field of a teacher: its own, or the one of its average velocity, D = x - s V on the linear path.

    Args:
        teacher: A teacher with average_velocity(x, s, t), and perhaps with field(x, s, t).
        x: State x_s, (B, ...).
        s: Source time.
        t: Target time.
        path: The path. None: the teacher's, or the linear one.

    Returns:
        D, of x's shape.
    """
    if not isinstance(teacher, Checked) and hasattr(teacher, "field"):
        return teacher.field(x, s, t)
    path = getattr(teacher, "path", None) or linear if path is None else path
    return path.field(teacher.average_velocity(x, s, t), x, expand(s, x), expand(t, x))


def _checked_call(function: Callable[..., Tensor], x: Tensor, *times: Time) -> Tensor:
    """Call a method of a teacher. Raises ValueError if it refuses the call, writes into x or returns another shape."""
    before = version(x)
    try:
        value = function(x, *times)
    except ValueError as error:
        raise ValueError(f"the teacher refuses this call: {error}") from error
    refuse_written("the teacher", x, before)
    if getattr(value, "shape", None) != x.shape:
        got = tuple(value.shape) if hasattr(value, "shape") else f"a {type(value).__name__}"
        raise ValueError(f"the teacher must return the shape of x, {tuple(x.shape)}, but it returned {got}")
    return value


def fixed(teacher: Any) -> Fixed:
    """Velocity source: a pretrained model, an exact distribution or a FlowMap.

    Args:
        teacher: Any object with velocity(x, t).

    Returns:
        The source.

    Raises:
        TypeError: The teacher has no velocity.
    """
    return Fixed(teacher)


@dataclass(frozen=True)
class ByVelocity(Fixed):
    """Velocity source: a given teacher with Euler steps as jumps, which are DDIM steps on the linear path."""

    def __call__(self, flow: FlowMap, pair: Pair) -> Any:
        """Bind the teacher to the condition. Raises ValueError if it is on another path."""
        return _EulerSteps(super().__call__(flow, pair), pair.path)


@dataclass(frozen=True)
class _EulerSteps(Checked):
    """Teacher with single Euler steps as jumps."""

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        return self.velocity(x, s)


def by_velocity(teacher: Any) -> ByVelocity:
    """Velocity source: as `fixed`, for a model trained as a velocity only. Its jumps are Euler steps."""
    return ByVelocity(teacher)
