"""Inductive moment matching: jumps to one time from two earlier ones have the same distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..arguments import at_least, positive, within
from ..matching import moments
from ..method.method import Method
from ..method.term import Term
from ..times import Times, grouped, uniform_triangle
from ..velocity import conditional
from ..weight import by_interval, plain
from .row import SELF, landscape_row

__all__ = ["imm"]


@landscape_row(
    rule="distribution",
    learning=SELF,
    notes="jumps match in distribution, not in position; no teacher, no diagonal, so no velocity",
    cost=4,
    shared=4,
    paper="zhou2025inductive",
    equation="E w(s) ( k(a, a') - 2 k(a, b') + k(b, b') ),\na = F(x_s, s, t),  b = sg[F(x_r, r, t)],  t <= r < s",
    gradient="F(x_s, s, t)",
)
def imm(
    *,
    group: int = 4,
    halvings: float = 12.0,
    most: float = 160.0,
    times: Times = uniform_triangle(0.0, 160 / 161),
    scale: Callable[[Tensor, Tensor], Tensor] = lambda s, t: s - t,
    shift: float = 5.0,
    power: float = 1.0,
) -> Method:
    """Inductive moment matching.

        E w(s) (k(a, a') - 2 k(a, b') + k(b, b')),   a = F(x_s, s, t),  b = sg[F(x_r, r, t)],
        k(a, b) = exp(-|a - b| / (D |c|)),   eta(r) = max(eta(t), eta(s) - most/2^halvings),   eta(u) = u/(1 - u),
        w(s) = sigmoid(shift - l)/2 (-dl/ds) (1 - s)^power / ((1 - s)^2 + s^2),   l = 2 log((1 - s)/s)

    x_s and x_r lie on one pair of data and noise, and the rows of a block share (s, t). The shown value is the
    U-statistic of the squared distance, which is near zero and can be negative. The map is not trained on the diagonal:
    its velocity has no meaning. Rows of different classes are compared with each other too. Zhou, Ermon
    and Song 2025, arXiv 2503.07565.

    Args:
        group: Rows of a block, at least 2.
        halvings: Binary logarithm of the number of steps of r in eta.
        most: Largest eta.
        times: Sampler of (s, t) for a block; by default uniform pairs below eta = 160, since r has no room at s = 1.
        scale: Function (s, t) -> length c of the kernel, for data of standard deviation 1: s - t for networks that
            predict an average velocity.
        shift: Shift of the weight in l.
        power: Power of 1 - s in the weight.

    Raises:
        ValueError: A number is out of range.
    """
    at_least(2, group=group)
    positive(most=most)
    within(0, 30, halvings=halvings)

    def earlier(s: Tensor, t: Tensor) -> Tensor:
        moved = (s - most / 2**halvings * (1 - s)).clamp(min=0)  # eta(r) (1 - s), without the pole at s = 1
        return torch.maximum(t, moved / (1 - s + moved))

    def density(s: Tensor, t: Tensor) -> Tensor:
        by_sigmoid = s / (s**2 + math.exp(-shift) * (1 - s) ** 2)  # sigmoid(shift - l)/s, without the pole at s = 0
        return by_sigmoid * (1 - s) ** (power - 1) / ((1 - s) ** 2 + s**2)

    term = Term(
        partial(moments, earlier=earlier, scale=scale),
        conditional,
        times=grouped(times, group),
        weight=by_interval(density, plain),
        group=group,
        name="distribution",
    )
    return Method(term, name="imm")
