"""The joint state (x, l) of a state and its log-density, and the views of a flow map and of teachers on it.

A packed row is the flattened state and l / scale, (B, D + 1). Along the path dx/dt = v(x, t) and dl/dt = -div v(x, t),
so the joint velocity is (v, -div v) and the joint average velocity (V, -D), D the mean divergence along the path. None
of them depends on l, so data and noise have l = 0. Ai et al. 2025, F2D2, arXiv 2512.02636.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..derivative import stop
from ..flow_map import FlowMap
from ..forward_mode import Dual
from ..networks import WithDivergence
from ..path import Path, Time, expand
from .divergence import Divergence
from .sources import Checked, Conditional, Constant, is_conditional

ADVICE = "fm.likelihood.joint_map(flow, x0)"
"""The way from a flow map to a joint one."""


def packed(x: Tensor, change: Tensor | None = None) -> Tensor:
    """Pack states (B, ...) and l / scale, (B, 1), or 0, into rows (B, D + 1)."""
    rows = x.reshape(x.shape[0], -1)
    return torch.cat([rows, torch.zeros_like(rows[:, :1]) if change is None else change.to(rows.dtype)], 1)


def unpacked(y: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Unpack rows (B, D + 1) into states (B, *shape) and l / scale, (B, 1)."""
    if type(y) is Tensor and not torch.is_grad_enabled():
        # a view that is made without a graph would still require a gradient, which torch's counters refuse
        y = y.detach()
    return y[:, :-1].reshape(y.shape[0], *shape), y[:, -1:]


def joint_network(flow: Any) -> WithDivergence | None:
    """The network with a head of a joint map, also one with constant weights; None for any other flow."""
    network = getattr(flow, "network", None) if isinstance(flow, FlowMap) else None
    network = network.module if isinstance(network, Constant) else network
    return network if isinstance(network, WithDivergence) else None


@dataclass(frozen=True)
class Packed:
    """A joint map as a flow map of packed rows, for rules and samplers.

    Args:
        flow: A flow map whose network has a head; its condition is bound.
        shape: Shape of one state.
        scale: Size of the divergence in the units of the rows. None: the network's own.

    Raises:
        TypeError: The network has no head.
    """

    flow: FlowMap
    shape: tuple[int, ...]
    scale: float | None = None

    def __post_init__(self) -> None:
        if joint_network(self.flow) is None:
            raise TypeError(f"a joint map needs a network with a head for the divergence: {ADVICE}")

    def average_velocity(self, y: Tensor, s: Time, t: Time) -> Tensor:
        """(V, -D / scale) at packed rows."""
        flow, (x, _) = self.flow, unpacked(y, self.shape)
        s, t = expand(_flat(s), x), expand(_flat(t), x)
        flow._check(s, t)
        rows = x.shape[0]
        value = flow.network(x, s.reshape(rows), t.reshape(rows), divergence=True, **flow.condition)
        predicted, found = unpacked(value.to(x.dtype), self.shape)
        return packed(flow.output(predicted, x, s, t, flow.path), -self.ratio * found)

    def velocity(self, y: Tensor, t: Time) -> Tensor:
        """The joint velocity (v, -div v / scale) that the map predicts."""
        return self.average_velocity(y, t, t)

    def __call__(self, y: Tensor, s: Time, t: Time) -> Tensor:
        """Jump of packed rows."""
        return y + ((expand(t, y) - expand(s, y)) * self.average_velocity(y, s, t)).to(y.dtype)

    @property
    def ratio(self) -> float:
        """The network's scale over the one of the rows."""
        network = joint_network(self.flow)
        assert network is not None
        return 1.0 if self.scale is None else network.scale / self.scale

    @property
    def path(self) -> Path:
        """Path of the flow map."""
        return self.flow.path

    @property
    def is_partial(self) -> bool:
        """Whether the map knows one source time or one target time only."""
        return self.flow.is_partial

    def unlimited(self) -> Packed:
        """The same view without the limits of a partial map."""
        return Packed(self.flow.unlimited(), self.shape, self.scale)


def _flat(t: Time) -> Time:
    """A time of packed rows, (B, 1), as (B,)."""
    return t.reshape(-1) if isinstance(t, Tensor | Dual) and t.ndim > 1 else t


@dataclass(frozen=True)
class WithTrace:
    """A teacher of packed rows around a teacher of states: (v, -div v / scale).

    The divergence has no gradient. A teacher without jumps makes Euler steps.

    Args:
        teacher: The teacher; its condition is bound.
        shape: Shape of one state.
        scale: Size of the divergence.
        trace: The divergence, exact or estimated.
        probes: Directions of the divergence for the rows of a batch, (K, B, ...).
    """

    teacher: Any
    shape: tuple[int, ...]
    scale: float
    trace: Divergence
    probes: Tensor

    def velocity(self, y: Tensor, t: Time) -> Tensor:
        """The joint velocity at packed rows."""
        x, _ = unpacked(y, self.shape)
        t = expand(_flat(t), x)
        v, divergence = stop(self.trace)(lambda x: self.teacher.velocity(x, t), x, self.probes)
        if torch.is_grad_enabled() and x.requires_grad:
            v = self.teacher.velocity(x, t)
        return packed(v, -divergence.mean(1, keepdim=True) / self.scale)

    def average_velocity(self, y: Tensor, s: Time, t: Time) -> Tensor:
        """The velocity at s. Raises ValueError if the teacher makes jumps, whose mean divergence is not known."""
        inner = self.teacher.teacher if isinstance(self.teacher, Checked) else self.teacher
        if type(self.teacher) in (Checked, FlowMap) and hasattr(inner, "average_velocity"):
            raise ValueError(
                "this rule compares with jumps of the teacher, and a teacher without a head does not know the mean "
                f"divergence along them: give a joint map as the teacher ({ADVICE}), or by_velocity(teacher)"
            )
        return self.velocity(y, s)

    def __call__(self, y: Tensor, s: Time, t: Time) -> Tensor:
        """An Euler step of packed rows."""
        return y + (expand(t, y) - expand(s, y)) * self.average_velocity(y, s, t)


@dataclass(frozen=True)
class WithTraceOfFlow:
    """The conditional velocity of a pair, with the divergence of a marginal velocity: (u, -div v / scale).

    Its mean given x_s is the joint velocity, because it enters linearly.

    Args:
        pair: The conditional velocity u.
        marginal: The teacher of packed rows whose divergence counts.
    """

    pair: Conditional
    marginal: WithTrace
    conditional: ClassVar[bool] = True

    def velocity(self, y: Tensor, t: Time) -> Tensor:
        """The joint conditional velocity at packed rows."""
        x, _ = unpacked(y, self.marginal.shape)
        return packed(self.pair.velocity(x, expand(_flat(t), x)).to(x.dtype), self._change(y, t))

    def __call__(self, y: Tensor, s: Time, t: Time) -> Tensor:
        """Jump along the pair's own path, with the divergence at s."""
        x, change = unpacked(y, self.marginal.shape)
        moved = self.pair(x, expand(_flat(s), x), expand(_flat(t), x))
        return packed(moved, change + (expand(t, y) - expand(s, y)) * self._change(y, s))

    def _change(self, y: Tensor, t: Time) -> Tensor:
        """-div v / scale at packed rows, (B, 1)."""
        return unpacked(stop(self.marginal.velocity)(y, t), self.marginal.shape)[1]


@dataclass(frozen=True)
class JointTeachers:
    """Turns the teachers of a rule into teachers of packed rows.

    Args:
        flow: The joint map in training, its condition bound.
        shape: Shape of one state.
        trace: The divergence of velocities.
        probes: Its directions for the rows of a batch, (K, B, ...).
        marginal: The velocity whose divergence is learned where a rule has a conditional velocity. None: the flow's.
    """

    flow: FlowMap
    shape: tuple[int, ...]
    trace: Divergence
    probes: Tensor
    marginal: Any = None

    @property
    def scale(self) -> float:
        """Size of the divergence."""
        network = joint_network(self.flow)
        assert network is not None
        return network.scale

    def __call__(self, teacher: Any) -> Any:
        """The teacher of packed rows.

        Args:
            teacher: A teacher of states.

        Returns:
            The joint map itself for the flow and other weights of it, else the velocity with its divergence.

        Raises:
            ValueError: It is a conditional velocity that is changed, such as a guided one.
        """
        inner = teacher.teacher if type(teacher) is Checked else teacher
        if joint_network(inner) is not None:
            return Packed(inner, self.shape, self.scale)
        if isinstance(teacher, Conditional):
            if self.marginal is None and self.flow.is_partial:
                raise ValueError(
                    "a partial flow map has no velocity whose divergence it could learn beside a conditional velocity: "
                    "give the velocity, fm.methods.f2d2(method, teacher=...)"
                )
            return WithTraceOfFlow(teacher, self._traced(self.flow if self.marginal is None else self.marginal))
        if is_conditional(teacher):
            raise ValueError(
                f"joint training knows no divergence of the velocity {type(teacher).__name__}, which is right on "
                "average alone: guide a teacher, or train without guidance"
            )
        return self._traced(teacher)

    def _traced(self, teacher: Any) -> WithTrace:
        return WithTrace(teacher, self.shape, self.scale, self.trace, self.probes)


def signs_of_rows(probes: int) -> Any:
    """Sampler of random signs as probes, (n, probes, ...), for `Term.draws`."""

    def draw(n: int, like: Tensor) -> Tensor:
        signs = torch.randint(0, 2, (n, probes, *like.shape[1:]), device=like.device)
        return (2 * signs - 1).to(like.dtype)

    return draw
