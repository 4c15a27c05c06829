"""The anatomy of a method: the times that its terms draw, and the effect of their weights on a residual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..consistency import function_of
from ..derivative import rewound
from ..draws import Rows, generators_of
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.several import Several
from ..method.term import Term, TermLoss
from ..times import of_one_frame
from ..velocity import Pair
from ..weight import Weight

MOMENTS = (0.0, 0.5, 1.0)
"""Shares of training at which curricula are evaluated."""
ROWS, CURVE_ROWS = 2048, 64
SIZES = torch.logspace(-2, 2, 41, dtype=torch.float64)


@dataclass(frozen=True)
class Curve:
    """The effect of a weight on residuals of growing size; medians over the times that its term draws.

    Attributes:
        sizes: Root mean square of the residual per coordinate.
        loss: The loss of one row.
        pull: The derivative of the loss with respect to the size, the strength of a row's gradient.
    """

    sizes: Tensor
    loss: Tensor
    pull: Tensor


@dataclass(frozen=True)
class Part:
    """One term of a method.

    Attributes:
        name: The name of the term.
        share: Its share of the batch.
        rule: The name of its rule.
        velocity: The name of its velocity source.
        times: Draws of (s, t) by moment of training; a single moment if they never change.
        changes: The options of the rule that change during training, with their values at each moment.
        curves: The curve of each of its losses.
    """

    name: str
    share: float
    rule: str
    velocity: str
    times: Mapping[float, tuple[Tensor, Tensor]]
    changes: Mapping[str, list[float | str]]
    curves: Mapping[str, Curve]


@dataclass(frozen=True)
class Stage:
    """A method, or one of the methods that follow each other, with its share of training."""

    name: str
    share: float
    parts: tuple[Part, ...]


def anatomy(method: Method, flow: FlowMap, x0: Tensor, seed: int = 0) -> list[Stage]:
    """Read the stages of a method with their terms; the caller's random numbers are not touched.

    Args:
        method: The method.
        flow: Any flow map that the method can train.
        x0: Data (B, ...) of the method, which give the shape of a residual.
        seed: Fixes the times and the noise.

    Returns:
        The stages in order.
    """
    with rewound(x0.device):
        return [
            Stage(each.name, share, tuple(part(term, each, flow, x0, seed) for term in each.terms))
            for share, each in stages(method)
        ]


def stages(method: Method) -> list[tuple[float, Method]]:
    """(share of training, method), in order."""
    if not isinstance(method, Several):
        return [(1.0, method)]
    return list(zip(method.shares, method.methods, strict=True))


def part(term: Term, method: Method, flow: FlowMap, x0: Tensor, seed: int) -> Part:
    """Read one term.

    Args:
        term: The term.
        method: The method that holds it.
        flow: Any flow map that the method can train.
        x0: Data (B, ...).
        seed: Fixes the times.

    Returns:
        Its times, weights and changes.
    """
    times = {moment: times_at(term, moment, x0, seed) for moment in MOMENTS}
    first = times[MOMENTS[0]]
    if all(torch.equal(a, b) for drawn in times.values() for a, b in zip(first, drawn, strict=True)):
        times = {MOMENTS[0]: first}
    losses = losses_of(term, method, flow, x0, *(time[:CURVE_ROWS] for time in first))
    now = term.at(MOMENTS[0])
    curves = {name: curve(weight_of(now, name), loss.residual, loss.s, loss.t) for name, loss in losses.items()}
    rule, velocity = function_of(term.rule).__name__, name_of(term.velocity)
    return Part(term.name, term.share, rule, velocity, times, changes(term), curves)


def losses_of(term: Term, method: Method, flow: FlowMap, x0: Tensor, s: Tensor, t: Tensor) -> Mapping[str, TermLoss]:
    """Evaluate the losses of a term on rows with given times; if it couples rows, a block has the times of one of them.

    Args:
        term: The term.
        method: The method that holds it.
        flow: Any flow map that the method can train.
        x0: Data (B, ...); rows repeat if there are more times.
        s: Source times (N,).
        t: Target times (N,).

    Returns:
        The losses by name.
    """
    method.follow(flow)
    now, group = term.at(MOMENTS[0]), term.group or (1 if term.group is None else len(s))
    blocks = max(1, len(s) // group)
    s, t = (time[:blocks].repeat(group) for time in (s, t))
    rows = x0[torch.arange(len(s)) % len(x0)]
    of_term = Rows(total=len(s)).in_groups(term.group, term.name)
    pair = Pair(rows, torch.randn_like(rows), flow.path, {}, rows=of_term)
    return now.losses(flow, now.draw(pair, MOMENTS[0], (s, t)))


def changes(term: Term) -> dict[str, list[float | str]]:
    """The options of the rule that a curriculum changes, with their values at the moments of training."""
    options = [getattr(term.at(moment).rule, "keywords", {}) for moment in MOMENTS]
    names = dict.fromkeys(name for found in options for name in found)
    values = {name: [found.get(name, "-") for found in options] for name in names}
    changing = {name: found for name, found in values.items() if any(_differ(value, found[0]) for value in found)}
    return {name: [_shown(value) for value in found] for name, found in changing.items()}


def _differ(value: Any, first: Any) -> bool:
    """Whether two values of an option differ; the same object, such as a dict, does not."""
    return value is not first and value != first


def _shown(value: Any) -> float | str:
    """A value of an option, as a number or a name."""
    return float(value) if isinstance(value, (int, float)) else name_of(value)


def times_at(term: Term, progress: float, x0: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Draw times at a moment of training, from the same random numbers for every moment.

    Args:
        term: The term.
        progress: The moment, as a share of training.
        x0: Data (B, ...).
        seed: Fixes the random numbers.

    Returns:
        Source and target times; equal ones for a term on the diagonal.
    """
    for generator in generators_of(x0.device):
        generator.manual_seed(seed)
    s, t = of_one_frame(term.at(progress).times)(ROWS, progress, x0)
    return (s, s) if term.diagonal else (s, t)


def weight_of(term: Term, name: str) -> Weight:
    """The weight of the loss `name` of a term."""
    return term.weight[name] if isinstance(term.weight, Mapping) else term.weight


def curve(weight: Weight, like: Tensor, s: Tensor, t: Tensor) -> Curve:
    """Apply a weight to residuals of growing size, the same in every coordinate.

    Args:
        weight: The weight.
        like: A residual (B, ...), for shape and type.
        s: Source times.
        t: Target times.

    Returns:
        Loss and pull over the sizes.
    """
    losses, pulls = [], []
    for size in SIZES:
        residual = (torch.ones_like(like) * size.to(like)).requires_grad_()
        loss = weight(residual, s, t)
        (slope,) = torch.autograd.grad(loss.sum(), residual)
        losses.append(loss.detach().median())
        pulls.append(slope.flatten(1).sum(1).median())
    return Curve(SIZES, torch.stack(losses).double(), torch.stack(pulls).double())


def grouped(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Merge losses with equal weights under one name, for drawing."""
    found: dict[str, Curve] = {}
    for name, one in curves.items():
        same = next((key for key, other in found.items() if torch.equal(one.loss, other.loss)), None)
        if same is not None:
            found[f"{same}, {name}"] = found.pop(same)
        else:
            found[name] = one
    return found


def name_of(source: Any) -> str:
    """The name of a velocity source: own, conditional, averaged, fixed, ..."""
    source = source.func if isinstance(source, partial) else source
    return str(getattr(source, "__name__", type(source).__name__.lower()))
