"""Consistency models and what came of them: Eulerian methods over finite steps, towards t = 0; the post's section on
them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..consistency import diffusion
from ..finite_steps import Compare, Nearer, same_endpoint, same_endpoint_seen_at_data
from ..method.balance import gradient_ratio
from ..method.method import Method
from ..method.term import Term
from ..steps import Step, euler, jump
from ..times.grids import below, karras, on, on_pairs, uniform_grid
from ..times.samplers import Times, logit_normal_diagonal, to_data
from ..velocity import Discriminator, averaged, conditional, fixed
from ..weight import Weight, by_interval, huber, huber_each, root, squared
from .adversarial import ADVERSARIAL_SHARE, adversarial_term


def ct(
    *,
    points: Callable[[float], int] | None = None,
    ema: float | Callable[[float], float] | None = None,
    weight: Weight = squared,
    compare: Compare = torch.sub,
) -> Method:
    """Consistency training:  E d(F(x_s, s, 0), sg[F*(x_m, m, 0)]),  m the point below s on EDM's grid, x_m of the
    same pair, F* of averaged weights.

    Biased at a finite step, since the conditional velocity leads to x_m. points(progress) is the size of the grid,
    which grows from 2 to 151 like the square root of the progress (`growing_points`); ema: the decay, by default
    0.9^(2 / points). Song et al. 2023, arXiv 2303.01469.
    """
    points = growing_points() if points is None else points

    def decay(progress: float) -> float:
        return math.exp(2 * math.log(0.9) / points(progress))

    def now(term: Term, progress: float) -> Term:
        grid = edm_grid(points(progress))
        return replace(term.given(to=below(grid)), times=on(grid))

    rule = partial(same_endpoint, solver=jump, compare=compare)
    target = {"jumps": averaged(decay if ema is None else ema)}
    return _method("ct", Term(rule, conditional, weight=weight, sources=target, curriculum=now, name="eulerian"))


def edm_grid(points: int) -> Tensor:
    """EDM's grid (`grids.karras`) by the number of its points, as these papers count. ValueError for fewer than two."""
    if points < 2:
        raise ValueError(f"a consistency model needs a grid of at least two points, got {points}")
    return karras(points - 1)


def growing_points(first: int = 2, last: int = 150) -> Callable[[float], int]:
    """ceil(sqrt(progress ((last + 1)^2 - first^2) + first^2) - 1) + 1 (arXiv 2303.01469)."""
    return lambda progress: math.ceil(math.sqrt(progress * ((last + 1) ** 2 - first**2) + first**2) - 1) + 1


def cd(
    teacher: Any = None,
    *,
    points: int = 18,
    ema: float = 0.95,
    solver: Step = euler,
    weight: Weight = squared,
    compare: Compare = torch.sub,
) -> Method:
    """Consistency distillation:  E d(F(x_s, s, 0), sg[F*(x_m, m, 0)]),  m the point below s on EDM's grid, x_m one
    step of the teacher's ODE from x_s, F* of averaged weights.

    solver: `steps.euler`, or `steps.heun` for one call of the teacher more; compare: another distance, such as
    `perceptual.lpips()` with `weight.plain`. Song et al. 2023, arXiv 2303.01469.
    """
    grid = edm_grid(points)
    rule = partial(same_endpoint, to=below(grid), solver=solver, compare=compare)
    target = {"jumps": averaged(ema)}
    return _method("cd", Term(rule, fixed(teacher), times=on(grid), weight=weight, sources=target, name="eulerian"))


def lcm(
    teacher: Any = None,
    *,
    points: int = 50,
    ema: float = 0.95,
    solver: Step = euler,
    weight: Weight = huber_each(0.001),
) -> Method:
    """Latent consistency models: consistency distillation on a uniform grid of `points` times, of which each is a
    long step of the schedule, under a pseudo-Huber loss; the teacher brings its guidance.

    The step is DDIM's, which is Euler's on the linear path. Luo et al. 2023, arXiv 2310.04378.
    """
    grid = uniform_grid(points)
    rule = partial(same_endpoint, to=below(grid), solver=solver)
    target = {"jumps": averaged(ema)}
    return _method("lcm", Term(rule, fixed(teacher), times=on(grid), weight=weight, sources=target, name="eulerian"))


def ict(
    *,
    first: int = 10,
    last: int = 1280,
    mean: float = -1.1,
    std: float = 2.0,
    distance: Weight | None = None,
    compare: Compare = torch.sub,
) -> Method:
    """Improved consistency training:  E (sigma_s - sigma_m)^(-1) d(F(x_s, s, 0), sg[F(x_m, m, 0)]),  sigma = s/(1 -
    s), m the point below s on EDM's grid.

    The target has the flow's own weights, log sigma is normal, the grid doubles from `first` to `last` points;
    distance: the pseudo-Huber one with c = 0.00054 sqrt(D) by default. Song and Dhariwal 2024, arXiv 2310.14189.
    """
    doublings = round(math.log2(last / first))

    def now(term: Term, progress: float) -> Term:
        grid = karras(first * 2 ** min(int(progress * (doublings + 1)), doublings))
        weight = by_interval(inverse_step(below(grid)), distance or huber(0.00054))
        return replace(term.given(to=below(grid)), times=snapped(logit_normal_diagonal(mean, std), grid), weight=weight)

    rule = partial(same_endpoint, solver=jump, compare=compare)
    return _method("ict", Term(rule, conditional, curriculum=now, name="eulerian"))


def ect(
    *,
    stages: int = 8,
    q: float = 2.0,
    times: Times = to_data(logit_normal_diagonal(-1.1, 2.0)),
    distance: Weight = root,
    compare: Compare = torch.sub,
) -> Method:
    """Easy consistency tuning:  E (sigma_s - sigma_m)^(-1) |F(x_s, s, 0) - sg[F(x_m, m, 0)]|,  sigma_m = sigma_s
    max(0, 1 - n/q^k), n = 1 + 8 sigmoid(-sigma_s), sigma = s/(1 - s).

    k = 1, ..., `stages` in equal parts of training: at first the step is wide, and m = 0 at small sigma, which is
    the loss of a denoiser, then it shrinks. Meant to start from a diffusion model. Geng et al. 2024, arXiv 2406.14548.
    """

    def now(term: Term, progress: float) -> Term:
        to = relative_step(q ** (min(int(progress * stages), stages - 1) + 1))
        return replace(term.given(to=to), weight=by_interval(inverse_step(to), distance))

    rule = partial(same_endpoint, solver=jump, compare=compare)
    return _method("ect", Term(rule, conditional, times=times, curriculum=now, name="eulerian"))


def relative_step(divisor: float) -> Nearer:
    """sigma_m = sigma_s max(0, 1 - (1 + 8 sigmoid(-sigma_s))/divisor), as times sigma/(1 + sigma); not below t."""

    def nearer(s: Tensor, t: Tensor) -> Tensor:
        sigma = noise_level(s)
        level = sigma * (1 - (1 + 8 * torch.sigmoid(-sigma)) / divisor).clamp(min=0)
        return torch.maximum(level / (1 + level), t)

    return nearer


def noise_level(s: Tensor) -> Tensor:
    """sigma = s/(1 - s), EDM's noise level on the linear path, at most 80 as there."""
    return (s / (1 - s)).clamp(max=80.0)


def inverse_step(to: Nearer) -> Callable[[Tensor, Tensor], Tensor]:
    """1/(sigma_s - sigma_m)."""
    return lambda s, t: 1 / (noise_level(s) - noise_level(to(s, t))).clamp(min=1e-6)


def snapped(times: Times, grid: Tensor) -> Times:
    """t = 0 and s moved up to the next point of the grid: a distribution made discrete."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, _ = times(n, progress, like)
        points = grid.to(s)
        s = points[torch.searchsorted(points, s).clamp(1, len(points) - 1)]
        return s, torch.zeros_like(s)

    return draw


def ctm(
    teacher: Any = None,
    *,
    points: int = 18,
    ema: float = 0.999,
    solver: Step = euler,
    denoising: float = 0.0,
    discriminator: nn.Module | None = None,
    weight: Weight = squared,
    compare: Compare = torch.sub,
) -> Method:
    """Consistency trajectory models:  E d(F'(F(x_s, s, t), t, 0), sg[F'(F(x_m, m, t), t, 0)]),  m the point below s
    on EDM's grid, x_m a step of the teacher's ODE from x_s, F' of averaged weights, constant, while gradients pass
    through its input.

    solver: `finite_steps.several(steps.heun, k)` makes the step of k smaller ones. denoising: the share of the batch
    for the paper's denoising loss on the diagonal, discriminator: a network x -> logits for its adversarial one; both
    are held in proportion to the first loss by the gradients of the last layer. Kim et al. 2023, arXiv 2310.02279.
    """
    grid = edm_grid(points)
    adversarial = ADVERSARIAL_SHARE if discriminator is not None else 0.0
    rule = partial(same_endpoint_seen_at_data, to=below(grid), solver=solver, compare=compare)
    terms = [
        Term(
            rule,
            fixed(teacher),
            share=1 - denoising - adversarial,
            times=on_pairs(grid),
            weight=weight,
            sources={"outer": averaged(ema)},
            name="eulerian",
        )
    ]
    if denoising:
        balance = {"diffusion": gradient_ratio()}
        terms.append(Term(diffusion, share=denoising, times=logit_normal_diagonal(), weight=squared, balance=balance))
    if discriminator is not None:
        terms.append(adversarial_term(Discriminator(discriminator), adversarial))
    return Method(*terms, name="ctm")


def _method(name: str, term: Term) -> Method:
    return Method(term, name=name)
