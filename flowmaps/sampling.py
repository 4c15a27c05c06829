"""Sampling is a composition of steps:  for s, t in pairs(times): x = step(flow, x, s, t)."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .steps import Step, jump

Condition = Tensor | Mapping[str, Any] | None


def by_name(condition: Condition) -> dict[str, Any]:
    """The conditions by name: a tensor means {"label": tensor}, None means no condition."""
    return {"label": condition} if isinstance(condition, Tensor) else dict(condition or {})


def sample(
    flow: Any,
    noise: Tensor,
    steps: int = 1,
    *,
    times: Sequence[float] | None = None,
    step: Step = jump,
    condition: Condition = None,
    seed: int | None = None,
) -> Tensor:
    """Noise (B, ...) to samples (B, ...): `steps` equal jumps from t = 1 to t = 0, or along `times`, such as [1.0, 0.5,
    0.0].

    noise is the state at the first time: standard normal, but `sigma_max` times it on a variance exploding path. step:
    from `steps`, a jump by default, so `steps=100, step=steps.euler` is the 100-step ODE. condition: a dict of what the
    network takes beside x, s, t, or a tensor, which means {"label": tensor}. seed: fixes the random numbers of
    stochastic steps, without touching the global generator.
    Raises ValueError for times outside [0, 1] or NaN or fewer than two, for steps < 1, and for steps that a partial
    map does not know: with only_target=0 it takes one jump, or several times `steps.restart`; with only_source=1
    exactly one jump.
    """
    return _last(_states(flow, noise, time_grid(steps, times), step, condition, seed))


def trajectory(
    flow: Any,
    noise: Tensor,
    steps: int = 1,
    *,
    times: Sequence[float] | None = None,
    step: Step = jump,
    condition: Condition = None,
    seed: int | None = None,
) -> list[Tensor]:
    """All the states that `sample` passes through, the first is the noise: steps + 1 tensors (B, ...)."""
    return list(_states(flow, noise, time_grid(steps, times), step, condition, seed))


def invert(
    flow: Any,
    x0: Tensor,
    steps: int = 1,
    *,
    times: Sequence[float] | None = None,
    step: Step = jump,
    condition: Condition = None,
) -> Tensor:
    """Data (B, ...) to the noise that it comes from: deterministic steps from t = 0 to t = 1.

    By jumps this needs a map that was trained in both directions (`times.both_directions`); by `steps.euler` or
    `steps.heun` any velocity will do.
    """
    up = time_grid(steps)[::-1] if times is None else time_grid(steps, times)
    return _last(_states(flow, x0, up, step, condition, None))


def interpolate(
    flow: Any, a: Tensor, b: Tensor, n: int = 8, steps: int = 1, *, step: Step = jump, condition: Condition = None
) -> Tensor:
    """From a to b (B, ...) through noise space: (n, B, ...), the great circle between their `invert`ed noises, sampled
    back.
    """
    start, end = (invert(flow, x, steps, step=step, condition=condition) for x in (a, b))
    return torch.stack(
        [
            sample(flow, slerp(start, end, w), steps, step=step, condition=condition)
            for w in torch.linspace(0, 1, n).tolist()
        ]
    )


def slerp(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Spherical interpolation between the rows of a and b, which keeps the norm that Gaussian noise has. w = 0 is a, w
    = 1 is b.
    """
    x, y = a.flatten(1), b.flatten(1)
    cosine = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    angle = torch.acos(cosine.clamp(-1, 1))[:, None]
    # where sin(angle) has no digits left, the chord: it is the arc between equal directions, and between opposite
    # ones (all that one coordinate has) no arc is singled out
    straight = angle.sin() < 1e-4
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    p = torch.where(straight, 1 - w + 0 * angle, torch.sin((1 - w) * angle) / sine)
    q = torch.where(straight, w + 0 * angle, torch.sin(w * angle) / sine)
    return (p * x + q * y).reshape(a.shape)


def time_grid(steps: int, times: Sequence[float] | None = None) -> list[float]:
    """1, 1 - 1/steps, ..., 0, or the given times, checked."""
    if times is None:
        if steps < 1:
            raise ValueError(f"sampling needs at least one step, got {steps}")
        return [1 - k / steps for k in range(steps)] + [0.0]
    chosen = [float(t) for t in times]
    if len(chosen) < 2:
        raise ValueError(f"sampling needs at least two times, a start and an end, got {chosen}")
    bad = [t for t in chosen if not 0 <= t <= 1]
    if bad:
        raise ValueError(f"times must lie in [0, 1] (0 is data, 1 is noise), got {bad[0]:g}")
    return chosen


def _last(states: Iterable[Tensor]) -> Tensor:
    """The last state; the others are not kept."""
    return deque(states, maxlen=1)[0]


@torch.no_grad()
def _states(
    flow: Any, x: Tensor, times: Sequence[float], step: Step, condition: Condition, seed: int | None
) -> Iterator[Tensor]:
    if condition is not None:
        flow = flow.given(**by_name(condition))
    with _seeded(seed, x.device):
        yield x
        for s, t in pairwise(times):
            x = step(flow, x, s, t)
            yield x


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # a stream of its own, or noise that was drawn under the same seed would come back in the first step
        torch.manual_seed(seed ^ 0x5D588B656C078965)
        yield
