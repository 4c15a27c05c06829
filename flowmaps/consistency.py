"""The consistency rules. Each returns a residual that is zero for the true flow map; section 2 of the post.

- diffusion, the diffusion model inside a flow map:  V(x, s, s) = v(x, s)
- compositional, one jump is two jumps:  V(x, s, t) = (1 - g) V(x, s, m) + g V(F(x, s, m), m, t),  m = g s + (1 - g) t
- lagrangian, the target moves, dF/dt = v(F, t):  V + (t - s) dV/dt = v(F(x, s, t), t)
- eulerian, the source moves, dF/ds + grad_x F . v = 0:  V = v(x, s) + (t - s) (dV/ds + grad_x V . v(x, s))
- cycle, a jump and the jump back are the identity:  V(x, s, t) = V(F(x, s, t), t, s)

A rule is called as rule(flow, teacher, x, s, t): the state x = x_s of shape (B, ...), the times as (B, 1, ..., 1),
and any object `teacher` with velocity(x, t). `keep` and `stop`, applied to terms of the formula, decide where gradients
flow. The residual has x's shape and is in units of velocity.

Times may also differ from frame to frame, (B, 1, F, 1, 1): a jump then moves each frame at its own rate t - s, and the
derivatives in s and t are along this motion of all frames.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from .derivative import Derivative, detached, jvp, keep, stop
from .draws import uniform as uniform
from .path.time_shapes import is_per_frame
from .velocity import is_conditional

Rule = Callable[..., Any]
Guard = Callable[[Any, Mapping[str, Any]], str | None]


def guarded(guard: Guard) -> Callable[[Rule], Rule]:
    """Decorate a rule to refuse the velocities that make it wrong.

    Args:
        guard: Function (velocity, options) -> the reason for a refusal, or None.

    Returns:
        The decorator. The decorated rule raises ValueError with the reason.
    """

    def decorate(rule: Rule) -> Rule:
        @functools.wraps(rule)
        def checked(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, **options: Any) -> Tensor:
            refuse(checked, teacher, options)
            return rule(flow, teacher, x, s, t, **options)

        checked.guard = guard  # type: ignore[attr-defined]
        return checked

    return decorate


def refuse(rule: Rule, velocity: Any, options: Mapping[str, Any]) -> None:
    """Check a rule against the velocity that it is used with.

    Args:
        rule: A rule, or a `functools.partial` of one.
        velocity: The velocity source or the teacher.
        options: Keyword arguments of the rule.

    Raises:
        ValueError: The rule is wrong with this velocity; the message has the reason.
    """
    if isinstance(rule, functools.partial):
        return refuse(rule.func, velocity, {**rule.keywords, **options})
    guard: Guard | None = getattr(rule, "guard", None)
    reason = guard(velocity, options) if guard else None
    if reason:
        raise ValueError(reason)


R = TypeVar("R", bound=Callable[..., Any])


def on_the_diagonal(rule: R) -> R:
    """Decorator of a rule that uses the source time alone, so that its terms have t = s."""
    rule.diagonal = True  # type: ignore[attr-defined]
    return rule


def geometric(rule: R) -> R:
    """Decorator of a rule that holds on manifolds: it adds no states, and compares velocities at one point."""
    rule.geometric = True  # type: ignore[attr-defined]
    return rule


def by_frames(rule: R) -> R:
    """Decorator of a rule that holds for times per frame, where a jump moves each frame at its own rate t - s."""
    rule.by_frames = True  # type: ignore[attr-defined]
    return rule


def is_by_frames(rule: Rule) -> bool:
    """Whether a rule, with options bound or not, holds for times per frame."""
    return bool(getattr(function_of(rule), "by_frames", False))


def over(gap: Tensor, *tangents: Any) -> tuple[Tensor | float, tuple[Any, ...]]:
    """Derivative over an interval: gap times the derivative along the tangents.

    With times of rows the factor is the gap. With times per frame each frame moves at its own rate, and the derivative
    of one frame is along the motion of all, so the gap scales the tangents.

    Args:
        gap: t - s, (B, 1, ..., 1) or per frame.
        *tangents: Tangents of x, s and t: tensors, or the numbers 0 and 1.

    Returns:
        The factor, and the tangents of the derivative that it multiplies.
    """
    if not is_per_frame(gap):
        return gap, tangents
    return 1.0, tuple(one if isinstance(one, int) and one == 0 else gap * one for one in tangents)


def is_geometric(rule: Rule) -> bool:
    """Whether a rule, with options bound or not, holds on manifolds."""
    return bool(getattr(function_of(rule), "geometric", False))


def refuse_flat(rule: Rule, path: Any, name: str = "") -> None:
    """Check a rule against the path of its flow map.

    Args:
        rule: A rule, with options bound or not.
        path: The path.
        name: Name of the rule in the message. "": the one of its function.

    Raises:
        ValueError: The path is on a manifold, and the rule is a formula of flat space.
    """
    if path.curved and not is_geometric(rule):
        raise ValueError(
            f"the rule {name or function_of(rule).__name__!r} is a formula of flat space, and {path} is curved: take a "
            "method of fm.methods.MANIFOLDS, such as fm.methods.gfm_lsd(), or a rule of fm.riemannian, or mark a rule "
            "of your own with consistency.geometric if it adds no states"
        )


def is_diagonal(rule: Rule) -> bool:
    """Whether a rule, with options bound or not, lives on the diagonal t = s."""
    return bool(getattr(function_of(rule), "diagonal", False))


def function_of(rule: Rule) -> Any:
    """A rule without the options that are bound to it."""
    return function_of(rule.func) if isinstance(rule, functools.partial) else rule


def needs_marginal_at_the_endpoint(velocity: Any, options: Mapping[str, Any]) -> str | None:
    """Guard of the Lagrangian rules: the reason why a conditional velocity is wrong there, else None."""
    if is_conditional(velocity):
        return (
            "the Lagrangian rule evaluates the velocity at F(x, s, t), where a jump has led, but the conditional "
            "velocity eps - x_0 is only right on average, and at x_s, the point that was drawn with it; use own, "
            "averaged(...) or fixed(teacher)"
        )
    return None


def needs_jumps(velocity: Any, options: Mapping[str, Any]) -> str | None:
    """Guard of the compositional rules: the reason why a conditional velocity is wrong there, else None."""
    if is_conditional(velocity):
        return (
            "the compositional rule is about jumps, and the conditional velocity makes none; use own, averaged(...) or "
            "fixed(teacher)"
        )
    return None


def _needs_a_stopped_right_side(velocity: Any, options: Mapping[str, Any]) -> str | None:
    along = options.get("along")
    runs_along = velocity if along is None else along
    if is_conditional(runs_along) and options.get("slope", stop) is not stop:
        return (
            "a conditional velocity along which the derivative runs needs that derivative stopped: otherwise the "
            "gradient holds the product of two conditional velocities, whose mean is not the product of the means, and "
            "the loss is biased. Stop the slope, or let the derivative run along a marginal velocity (along=own, as "
            "improved MeanFlow does)"
        )
    return None


@by_frames
@on_the_diagonal
def diffusion(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Diffusion rule at the source time:  V(x, s, s) = v(x, s).

    Args:
        flow: The flow map.
        teacher: The velocity v. With the conditional velocity this is flow matching (arXiv 2210.02747).
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Not used.

    Returns:
        The residual, of x's shape.
    """
    return flow.velocity(x, s) - stop(teacher.velocity)(x, s)


def midpoint(n: int, like: Tensor) -> Tensor:
    """Draw nothing: g = 1/2 for n rows, (n, 1, ..., 1), in the dtype and on the device of `like`."""
    return torch.full((n, *[1] * (like.ndim - 1)), 0.5, dtype=like.dtype, device=like.device)


def two_jumps(
    flow: Any, x: Tensor, s: Tensor, t: Tensor, g: Tensor | float, limit: Callable[[Tensor], Tensor] = keep
) -> Tensor:
    """Average velocity of two jumps in a row, from s to m = g s + (1 - g) t and from m to t.

    Args:
        flow: The flow map.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        g: Share of the second jump in the interval, a number or (B, 1, ..., 1).
        limit: Function that bounds the state between the jumps and the result; by default nothing is bounded.

    Returns:
        (1 - g) V(x, s, m) + g V(F(x, s, m), m, t), of x's shape.
    """
    m = g * s + (1 - g) * t
    first = flow.average_velocity(x, s, m)
    return limit((1 - g) * first + g * flow.average_velocity(limit(x + (m - s) * first), m, t))


@by_frames
@guarded(needs_jumps)
def compositional(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    g: Tensor | float = 0.5,
    limit: Callable[[Tensor], Tensor] = keep,
) -> Tensor:
    """Compositional rule, one jump is two jumps:  V(x, s, t)  =  sg[(1 - g) V(x, s, m) + g V(F(x, s, m), m, t)].

    Args:
        flow: The flow map, on the left.
        teacher: The flow map of the two jumps on the right.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        g: Share of the second jump in the interval, m = g s + (1 - g) t.
        limit: Function that bounds the state at m and the right side; by default nothing is bounded.

    Returns:
        The residual, of x's shape.

    Raises:
        ValueError: The teacher is the conditional velocity.
    """
    return flow.average_velocity(x, s, t) - stop(two_jumps)(teacher, x, s, t, g, limit)


def _needs_the_own_map(velocity: Any, options: Mapping[str, Any]) -> str | None:
    if is_conditional(velocity):
        return (
            "the cycle rule is about jumps of the flow map there and back, and the conditional velocity of a pair has "
            "no part in it; use own"
        )
    return None


@by_frames
@guarded(_needs_the_own_map)
def cycle(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Cycle rule, a jump and the jump back end where they began:  V(x, s, t)  =  V(F(x, s, t), t, s).

    (t - s) times the residual is F(F(x, s, t), t, s) - x. Both jumps keep their gradient. A map that is zero
    everywhere is its own inverse too, so this rule stands beside one that learns the map (FALCON, arXiv 2512.09914).

    Args:
        flow: The flow map, of both directions of time.
        teacher: Not used: the velocity source is `own`.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.

    Returns:
        The residual, of x's shape.

    Raises:
        ValueError: The teacher is the conditional velocity, or the map is partial.
    """
    if getattr(flow, "is_partial", False):
        raise ValueError(
            "the cycle rule needs jumps in both directions of time, and this partial flow map knows one end of time "
            "alone: train a map of all times, FlowMap(network) without only_source and only_target"
        )
    V = flow.average_velocity(x, s, t)
    return V - flow.average_velocity(x + (t - s) * V, t, s)


@by_frames
@guarded(needs_marginal_at_the_endpoint)
def lagrangian(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    derivative: Derivative = jvp,
    slope: Callable = keep,
    target: Callable = stop,
) -> Tensor:
    """Lagrangian rule, the target moves:  V + (t - s) dV/dt  =  v(F(x, s, t), t).

    Args:
        flow: The flow map.
        teacher: The velocity v, marginal, for it is evaluated at the end of a jump.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        derivative: Mode of dV/dt, from `flowmaps.derivative`.
        slope: `keep` or `stop`, applied to dV/dt.
        target: `keep` or `stop`, applied to the right side.

    Returns:
        The residual, of x's shape.

    Raises:
        ValueError: The teacher is the conditional velocity.
    """
    gap, tangents = over(t - s, 0, 0, 1)
    V, dV = derivative(flow.average_velocity, (x, s, t), tangents)
    return V + gap * slope(dV) - target(teacher.velocity)(x + (t - s) * V, t)


@by_frames
@guarded(_needs_a_stopped_right_side)
def eulerian(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    derivative: Derivative = detached,
    slope: Callable = stop,
    along: Any = None,
) -> Tensor:
    """Eulerian rule, the source moves:  V  =  v(x, s) + (t - s) (dV/ds + grad_x V . w); velocities are stopped.

    Args:
        flow: The flow map.
        teacher: The velocity v that is subtracted.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        derivative: Mode of the derivative, from `flowmaps.derivative`.
        slope: `keep` or `stop`, applied to the derivative.
        along: Teacher with the velocity w along which the derivative runs. None: w = v(x, s).

    Returns:
        The residual, of x's shape.

    Raises:
        ValueError: The derivative runs along a conditional velocity and is not stopped.
    """
    v = stop(teacher.velocity)(x, s)
    w = v if along is None else stop(along.velocity)(x, s)
    gap, tangents = over(t - s, w, 1, 0)
    V, dV = derivative(flow.average_velocity, (x, s, t), tangents)
    return V - v - gap * slope(dV)
