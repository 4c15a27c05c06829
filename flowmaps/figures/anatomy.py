"""What a method does, read from the method itself: the times that its terms draw, and what their weights make of a
residual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..consistency import function_of
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.stages import Stages
from ..method.term import Term, TermLoss
from ..velocity import Pair
from ..weight import Weight

MOMENTS = (0.0, 0.5, 1.0)
"""Shares of training at which curricula are looked at."""
ROWS, CURVE_ROWS = 2048, 64
SIZES = torch.logspace(-2, 2, 41, dtype=torch.float64)


@dataclass(frozen=True)
class Curve:
    """What a weight makes of residuals of growing size, medians over the times that its term draws.

    sizes: root mean square per coordinate. loss: of one row. pull: its derivative by the size, which is how hard a row
    pulls on the network.
    """

    sizes: Tensor
    loss: Tensor
    pull: Tensor


@dataclass(frozen=True)
class Part:
    """One term: its share of the batch, the times (s, t) that it draws at some moments of training (one where they
    never change), the options of its rule that change in the course of training, the curve of each of its losses.
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
    """The stages of a method with their terms. flow: any that the method can train; x0 (B, ...): its data, which say
    the shape of a residual. The caller's random numbers are not touched.
    """
    with torch.random.fork_rng(devices=[]):
        return [
            Stage(each.name, share, tuple(part(term, each, flow, x0, seed) for term in each.terms))
            for share, each in stages(method)
        ]


def stages(method: Method) -> list[tuple[float, Method]]:
    """(share of training, method), one after another."""
    if not isinstance(method, Stages):
        return [(1.0, method)]
    starts = [0.0, *method.ends]
    return [(end - start, method.method(k)) for k, (start, end) in enumerate(zip(starts, method.ends, strict=False))]


def part(term: Term, method: Method, flow: FlowMap, x0: Tensor, seed: int) -> Part:
    """Look at one term."""
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
    """The losses of a term on rows with these times."""
    method.follow(flow)
    rows = x0[torch.arange(len(s)) % len(x0)]
    now = term.at(MOMENTS[0])
    pair = Pair(rows, torch.randn_like(rows), flow.path, {})
    return now.losses(flow, now.draw(pair, MOMENTS[0], (s, t)))


def changes(term: Term) -> dict[str, list[float | str]]:
    """The options of the rule that a curriculum changes, with their values at the moments of training."""
    options = [getattr(term.at(moment).rule, "keywords", {}) for moment in MOMENTS]
    names = dict.fromkeys(name for found in options for name in found)
    values = {name: [found.get(name, "-") for found in options] for name in names}
    return {name: [_shown(value) for value in found] for name, found in values.items() if len(set(found)) > 1}


def _shown(value: Any) -> float | str:
    return float(value) if isinstance(value, (int, float)) else name_of(value)


def times_at(term: Term, progress: float, x0: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Source and target times at a moment of training, the same random numbers for every moment."""
    torch.manual_seed(seed)
    s, t = term.at(progress).times(ROWS, progress, x0)
    return (s, s) if term.diagonal else (s, t)


def weight_of(term: Term, name: str) -> Weight:
    """The weight of one loss of a term."""
    return term.weight[name] if isinstance(term.weight, Mapping) else term.weight


def curve(weight: Weight, like: Tensor, s: Tensor, t: Tensor) -> Curve:
    """The weight of residuals that have the same size in every coordinate."""
    losses, pulls = [], []
    for size in SIZES:
        residual = (torch.ones_like(like) * size.to(like)).requires_grad_()
        loss = weight(residual, s, t)
        (slope,) = torch.autograd.grad(loss.sum(), residual)
        losses.append(loss.detach().median())
        pulls.append(slope.flatten(1).sum(1).median())
    return Curve(SIZES, torch.stack(losses).double(), torch.stack(pulls).double())


def grouped(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Losses that weigh alike under one name, for drawing."""
    found: dict[str, Curve] = {}
    for name, one in curves.items():
        same = next((key for key, other in found.items() if torch.equal(one.loss, other.loss)), None)
        if same is not None:
            found[f"{same}, {name}"] = found.pop(same)
        else:
            found[name] = one
    return found


def name_of(source: Any) -> str:
    """A velocity source in a word: own, conditional, averaged, fixed, ..."""
    source = source.func if isinstance(source, partial) else source
    return str(getattr(source, "__name__", type(source).__name__.lower()))
