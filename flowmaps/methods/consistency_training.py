"""Improved consistency training: a target with the flow's own weights, a weight by the step in noise level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..finite_steps import Compare, Nearer, same_endpoint
from ..method.method import Method
from ..method.term import Term
from ..steps import jump
from ..times import Times, logit_normal_diagonal, to_data
from ..times.grids import Grid, below, karras
from ..velocity import conditional
from ..weight import Weight, by_interval, huber, root
from .consistency_models import on_grid
from .row import POSITION, SELF, landscape_row

__all__ = ["ict", "ect"]


@landscape_row(
    rule="eulerian",
    learning=SELF,
    output=POSITION,
    notes="t = 0 only, finite step, pseudo-Huber; biased",
    cost=4,
    shared=4,
    paper="song2023improved",
    equation="E d(F(x_s, s, 0), sg[F(x_m, m, 0)]) / (sigma_s - sigma_m),  sigma = s/(1 - s)",
    gradient="F(x_s, s, 0)",
    only_target=0.0,
)
def ict(
    *,
    first: int = 10,
    last: int = 1280,
    grid: Grid = karras,
    mean: float = -1.1,
    std: float = 2.0,
    distance: Weight | None = None,
    compare: Compare = torch.sub,
) -> Method:
    """Improved consistency training.

        E (sigma_s - sigma_m)^(-1) d(F(x_s, s, 0), sg[F(x_m, m, 0)]),  sigma = s/(1 - s), m below s on EDM's grid

    The paper's grid ends at the noise levels 0.002 and 80: `variants.ict_cifar10`. Song and Dhariwal 2024, arXiv
    2310.14189.

    Args:
        first: Size of the first grid; it doubles in equal parts of training.
        last: Size of the last grid.
        grid: Function from a number of intervals to the grid; by default EDM's, with its ends at data and noise.
        mean: Mean of log sigma, which is normal and moved up to the grid.
        std: Standard deviation of log sigma.
        distance: The distance d; None for pseudo-Huber with c = 0.00054 sqrt(D).
        compare: Difference of two positions; by default their difference.
    """
    doublings = round(math.log2(last / first))

    def now(term: Term, progress: float, grid: Grid = karras) -> Term:
        points = grid(first * 2 ** min(int(progress * (doublings + 1)), doublings))
        weight = by_interval(inverse_step(below(points)), distance or huber(0.00054))
        times = snapped(logit_normal_diagonal(mean, std), points)
        return replace(term.given(to=below(points)), times=times, weight=weight)

    rule = partial(same_endpoint, solver=jump, compare=compare)
    curriculum = now if grid is karras else on_grid(now, grid)
    return Method(Term(rule, conditional, curriculum=curriculum, name="eulerian"), name="ict")


@landscape_row(
    rule="eulerian",
    learning=SELF,
    output=POSITION,
    notes="t = 0 only, step shrinks from all of s; biased",
    cost=4,
    shared=4,
    paper="geng2024consistency",
    equation="E | F(x_s, s, 0) - sg[F(x_m, m, 0)] | / (sigma_s - sigma_m)",
    gradient="F(x_s, s, 0)",
    only_target=0.0,
)
def ect(
    *,
    stages: int = 8,
    q: float = 2.0,
    times: Times = to_data(logit_normal_diagonal(-1.1, 2.0)),
    distance: Weight = root,
    compare: Compare = torch.sub,
) -> Method:
    """Easy consistency tuning.

        E (sigma_s - sigma_m)^(-1) |F(x_s, s, 0) - sg[F(x_m, m, 0)]|,
        sigma_m = sigma_s max(0, 1 - n/q^k), n = 1 + 8 sigmoid(-sigma_s), sigma = s/(1 - s)

    k = 1, ..., `stages` in equal parts of training: at first the step is wide, and m = 0 at small sigma, which is the
    loss of a denoiser, then it shrinks. Meant to start from a diffusion model. Geng et al. 2024, arXiv 2406.14548.

    Args:
        stages: Number of parts of training.
        q: Factor by which the step shrinks from part to part.
        times: Sampler of s, with t = 0; by default log sigma is normal.
        distance: Distance and weight of the residual; by default the Euclidean norm.
        compare: Difference of two positions; by default their difference.
    """

    def now(term: Term, progress: float) -> Term:
        to = relative_step(q ** (min(int(progress * stages), stages - 1) + 1))
        return replace(term.given(to=to), weight=by_interval(inverse_step(to), distance))

    rule = partial(same_endpoint, solver=jump, compare=compare)
    return Method(Term(rule, conditional, times=times, curriculum=now, name="eulerian"), name="ect")


def relative_step(divisor: float) -> Nearer:
    """ECT's next time: sigma_m = sigma_s max(0, 1 - (1 + 8 sigmoid(-sigma_s))/divisor) as a time, not below t."""

    def nearer(s: Tensor, t: Tensor) -> Tensor:
        sigma = noise_level(s)
        level = sigma * (1 - (1 + 8 * torch.sigmoid(-sigma)) / divisor).clamp(min=0)
        return torch.maximum(level / (1 + level), t)

    return nearer


def noise_level(s: Tensor) -> Tensor:
    """EDM's noise level on the linear path, sigma = s/(1 - s), at most 80 as there."""
    return (s / (1 - s)).clamp(max=80.0)


def inverse_step(to: Nearer) -> Callable[[Tensor, Tensor], Tensor]:
    """1/(sigma_s - sigma_m)."""
    return lambda s, t: 1 / (noise_level(s) - noise_level(to(s, t))).clamp(min=1e-6)


def snapped(times: Times, grid: Tensor) -> Times:
    """Times made discrete: s moved up to the next point of the ascending grid, and t = 0."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, _ = times(n, progress, like)
        points = grid.to(s)
        s = points[torch.searchsorted(points, s).clamp(1, len(points) - 1)]
        return s, torch.zeros_like(s)

    return draw
