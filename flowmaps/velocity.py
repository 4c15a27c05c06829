"""Where the velocity in a rule comes from.

A *velocity source* is a function (flow, pair) -> teacher, bound anew for each batch; a *teacher* is anything with
`velocity(x, t)`, and with `average_velocity(x, s, t)` where a rule asks it for jumps. So an exact distribution, a
FlowMap or a pretrained model is a teacher as it is.

- `conditional`: u = alpha' x_0 + sigma' eps of the sampled pair, unbiased at x_s only, and only where the residual is
  linear in it
- `own`: the flow itself (the post's self-distillation)
- `frozen`: the flow's weights as constants; gradients still pass through its input
- `averaged(decay)`: an exponential moving average of the flow's weights, kept by the method
- `fixed(model)`: a given teacher
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from .flow_map import FlowMap
from .path import Path, Time


class Teacher(Protocol):
    """Anything with a velocity."""

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t), of x's shape; the rules give t as (B, 1, ..., 1), which broadcasts against x."""
        ...


@dataclass(frozen=True)
class Pair:
    """One draw of data and noise with the condition that belongs to it."""

    x0: Tensor
    eps: Tensor
    path: Path
    condition: dict[str, Any]


VelocitySource = Callable[[FlowMap, Pair], Any]


@dataclass(frozen=True)
class Conditional:
    """The teacher that only knows the pair at hand: velocity(x, t) = alpha'(t) x_0 + sigma'(t) eps, whatever x is."""

    pair: Pair
    conditional: ClassVar[bool] = True

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        return self.pair.path.velocity(self.pair.x0, self.pair.eps, t)


def is_conditional(source: object) -> bool:
    """Whether a velocity source or a teacher stands for the conditional velocity."""
    return bool(getattr(source, "conditional", False))


def conditional(flow: FlowMap, pair: Pair) -> Conditional:
    """u = alpha'(s) x_0 + sigma'(s) eps, whose mean given x_s is v(x_s, s) (the marginalisation trick of diffusion
    training).
    """
    return Conditional(pair)


conditional.conditional = True  # type: ignore[attr-defined]


def own(flow: FlowMap, pair: Pair) -> FlowMap:
    """The flow itself, weights and all."""
    return flow


def frozen(flow: FlowMap, pair: Pair) -> FlowMap:
    """The flow with its weights as constants: gradients pass through x, s and t, not into the weights. (For no gradient
    at all: `stop`.)
    """
    weights = {name: value.detach() for name, value in flow.network.named_parameters()}

    def network(*args: Any, **kwargs: Any) -> Tensor:
        return torch.func.functional_call(flow.network, weights, args, kwargs)

    return flow.around(network)


class Averaged(nn.Module):
    """The flow with averaged weights: w* <- decay w* + (1 - decay) w, moved by `follow` once after each change of the
    weights.

    This is a *target* of the loss; it has nothing to do with the average that is kept for evaluation, nor with a
    teacher's.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a target average must lie in [0, 1), got {decay}")
        self.decay = decay
        self.target: nn.Module | None = None
        self._followed: tuple[nn.Module, Tensor] | None = None

    def follow(self, flow: FlowMap) -> None:
        """Start as a copy of the flow's network, then move towards it whenever its weights have changed since the last
        call.
        """
        weights = [weight.detach() for weight in flow.network.parameters()]
        # their norms tell whether they changed: version counters would not, as fused optimizers leave them alone
        seen = torch.stack(torch._foreach_norm(weights)) if weights else torch.zeros(1)
        if self.target is None or (self._followed is not None and self._followed[0] is not flow.network):
            self.target = copy.deepcopy(flow.network).requires_grad_(False)
        elif self._followed is None or not torch.equal(self._followed[1], seen):
            with torch.no_grad():
                torch._foreach_lerp_(list(self.target.parameters()), weights, 1 - self.decay)
                for mine, theirs in zip(self.target.buffers(), flow.network.buffers(), strict=True):
                    mine.copy_(theirs)
        object.__setattr__(self, "_followed", (flow.network, seen))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._followed = None  # a checkpoint is written after a step: its weights are still to be followed

    def forward(self, flow: FlowMap, pair: Pair) -> FlowMap:
        assert self.target is not None, "Method.loss follows the flow before it binds the sources"
        return flow.around(self.target)


def averaged(decay: float) -> Averaged:
    """An average of the flow's weights over its own training: see `Averaged`."""
    return Averaged(decay)


@dataclass(frozen=True)
class Fixed:
    """A given teacher as a velocity source: bound to the condition where it takes one, its weights as constants where
    it is a FlowMap.
    """

    teacher: Any

    def __post_init__(self) -> None:
        if not callable(getattr(self.teacher, "velocity", None)):
            raise TypeError(
                "a distillation method needs teacher=, a FlowMap or any object with velocity(x, t); "
                + ("none was given" if self.teacher is None else f"{type(self.teacher).__name__} has no such method")
            )

    def __call__(self, flow: FlowMap, pair: Pair) -> Any:
        teacher = self.teacher
        if pair.condition and hasattr(teacher, "given"):
            teacher = teacher.given(**pair.condition)
        return Checked(frozen(teacher, pair) if isinstance(teacher, FlowMap) else teacher)


@dataclass(frozen=True)
class Checked:
    """A teacher whose answers are held to the shape of the question. Without jumps of its own it makes them by one
    Euler step.
    """

    teacher: Any

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        return _answer(self.teacher.velocity, x, t)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        jumps = getattr(self.teacher, "average_velocity", None)
        return self.velocity(x, s) if jumps is None else _answer(jumps, x, s, t)


def _answer(question: Callable[..., Tensor], x: Tensor, *times: Time) -> Tensor:
    try:
        value = question(x, *times)
    except ValueError as error:
        raise ValueError(f"the teacher cannot answer: {error}") from error
    if value.shape != x.shape:
        raise ValueError(
            f"the teacher must return the shape of x, {tuple(x.shape)}, but it returned {tuple(value.shape)}"
        )
    return value


def fixed(teacher: Any) -> Fixed:
    """A pretrained model, an exact distribution or a FlowMap as the velocity source. Raises TypeError for an object
    without velocity(x, t).
    """
    return Fixed(teacher)
