"""Inversion of sampling, and interpolation through noise space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least
from ..path import Path, linear
from ..steps import Step, heun, jump, named
from .composition import last, sample, states_of
from .grid import ascending
from .states import Condition, check_state

CUT = 3e-4
"""Share of the distance of the cut locus by which ends of an interpolation keep away from it."""
HEUN_STEPS = 64
"""Steps of an inversion that follows the velocity, if their number is not given."""


def invert(
    flow: Any,
    x0: Tensor,
    steps: int | None = None,
    *,
    times: Sequence[float] | None = None,
    step: Step | str | None = None,
    condition: Condition = None,
) -> Tensor:
    """Invert sampling: take data to its noise in deterministic steps from t = 0 to t = 1.

    Args:
        flow: A FlowMap, an exact distribution or a teacher.
        x0: Data, (B, ...).
        steps: Number of equal steps. None: 1 jump, or 64 steps of `steps.heun`.
        times: Times of the states instead, from data to noise.
        step: Deterministic step from `flowmaps.steps`, or its name. None: jumps, or `steps.heun` with a warning for a
            map that was trained (`flow.trained`) in the other direction alone; `times.both_directions` trains both.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.

    Returns:
        The noise, of the shape of the data.

    Raises:
        ValueError: As in `sample`, the times go from noise to data, or neither jumps towards noise nor the velocity
            were trained.
    """
    check_state("x0", x0)
    step = _inverting(flow, steps, times) if step is None else named(step)
    count = HEUN_STEPS if step is heun and steps is None and times is None else steps
    return last(states_of(flow, x0, ascending(count, times), step, condition, None))


def _inverting(flow: Any, steps: int | None, times: Sequence[float] | None) -> Step:
    """Choose the step of an inversion: jumps, unless the map was trained and has not learned them."""
    trained = getattr(flow, "trained", None)
    if trained is None:
        return jump
    wrong = next(filter(None, (trained.warning_of_times(s, t) for s, t in pairwise(ascending(steps, times)))), None)
    if wrong is None:
        return jump
    if not trained.velocity:
        raise ValueError(f"this flow map cannot be inverted, because its velocity is untrained too: {wrong}")
    flow.warn_once(
        "this flow map was not trained on jumps from data to noise, so it is inverted along its velocity, by "
        f"steps.heun (steps={steps or HEUN_STEPS}). Pass step= to choose, or train with times=fm.times.both_directions("
        "...) to invert by jumps",
        stacklevel=4,
    )
    return heun


def interpolate(
    flow: Any,
    a: Tensor,
    b: Tensor,
    n: int = 8,
    steps: int | None = None,
    *,
    step: Step | str | None = None,
    condition: Condition = None,
) -> Tensor:
    """Interpolate between data through noise space: invert both ends, follow the great circle, sample back.

    On a manifold the shortest geodesic between the ends in noise space stands for the great circle.

    Args:
        flow: A FlowMap, an exact distribution or a teacher; see `invert`.
        a: Data at the start, (B, ...).
        b: Data at the end, of the same shape.
        n: Number of points, with both ends.
        steps: Number of equal steps of each inversion and each sampling. None: 1 jump, or 64 steps of `steps.heun`.
        step: Deterministic step from `flowmaps.steps`, or its name. None: jumps where they were trained, else
            `steps.heun`; see `invert`.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.

    Returns:
        The points, (n, B, ...).

    Raises:
        ValueError: As in `invert`; or ends on a manifold have no shortest geodesic in noise space, for one is at the
            cut locus of the other, as antipodes on a sphere.
    """
    at_least(1, n=n)
    check_state("a", a)
    check_state("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    start, end = (invert(flow, x, steps, step=step, condition=condition) for x in (a, b))
    between = slerp
    if (path := getattr(flow, "path", linear)).curved:
        between = partial(_geodesic, path)
        refuse_cut_locus(path, start, end)
    trained = getattr(flow, "trained", None)
    down = named(step or (jump if trained is None or trained.jumps else heun))
    count = HEUN_STEPS if down is heun and steps is None else steps
    return torch.stack(
        [
            sample(flow, between(start, end, w), count, step=down, condition=condition)
            for w in torch.linspace(0, 1, n).tolist()
        ]
    )


def _geodesic(path: Path, a: Tensor, b: Tensor, w: float) -> Tensor:
    return path.move(a, w * path.between(a, b))


def refuse_cut_locus(path: Path, a: Tensor, b: Tensor) -> None:
    """Refuse points without one shortest geodesic between them.

    Args:
        path: The path of the manifold.
        a: Points (B, size).
        b: Other points, likewise.

    Raises:
        ValueError: Two points are within `CUT` of the distance of the cut locus.
    """
    way = path.between(a, b)
    length = path.scale(a, way).norm(dim=-1)
    if bool((found := path.to_cut(a, way) > 1 - CUT).any()):
        row = int(found.nonzero()[0, 0])
        raise ValueError(
            f"rows {row} of the two ends are {float(length[row]):.4f} apart, at the cut locus, where no shortest "
            f"geodesic is singled out ({int(found.sum())} of {len(length)} rows): move one of them a little"
        )


def slerp(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Spherical interpolation between the rows of a and b; it keeps the norm of Gaussian noise.

    Args:
        a: Rows at the start, (B, ...).
        b: Rows at the end, of the same shape.
        w: Position; 0 is a, 1 is b.

    Returns:
        The rows in between, (B, ...).
    """
    x, y = a.flatten(1), b.flatten(1)
    cosine = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    angle = torch.acos(cosine.clamp(-1, 1))[:, None]
    # the chord if sin(angle) has no digits left: it is the arc between equal directions; between opposite directions
    # (the only ones of one coordinate) no arc is singled out
    straight = angle.sin() < 1e-4
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    p = torch.where(straight, 1 - w + 0 * angle, torch.sin((1 - w) * angle) / sine)
    q = torch.where(straight, w + 0 * angle, torch.sin(w * angle) / sine)
    return (p * x + q * y).reshape(a.shape)
