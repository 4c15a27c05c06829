"""Consistency models: Eulerian methods over finite steps, towards t = 0; the post's section on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..consistency import diffusion
from ..finite_steps import Compare, same_endpoint, same_endpoint_seen_at_data
from ..method.balance import gradient_ratio
from ..method.method import Method
from ..method.term import Term
from ..steps import Step, euler, jump
from ..times.grids import Grid, below, karras, on, on_pairs, uniform_grid
from ..times.samplers import Times, logit_normal_diagonal
from ..velocity import Discriminator, averaged, conditional, fixed
from ..weight import Weight, huber_each, squared
from .adversarial import ADVERSARIAL_SHARE, adversarial_term
from .row import POSITION, SELF, TEACHER, landscape_row

__all__ = ["ct", "cd", "ctm", "lcm"]


@landscape_row(
    rule="eulerian",
    learning=SELF,
    output=POSITION,
    notes="t = 0 only, finite step, averaged target; biased",
    published_cost=4,
    cost=4,
    shared=4,
    paper="song2023consistency",
    equation="E | F(x_s, s, 0) - sg[F*(x_m, m, 0)] |^2,  m < s on a grid, x_m of the same pair, F* averaged",
    gradient="F(x_s, s, 0)",
    only_target=0.0,
)
def ct(
    *,
    points: Callable[[float], int] | None = None,
    grid: Grid = karras,
    ema: float | Callable[[float], float] | None = None,
    weight: Weight = squared,
    compare: Compare = torch.sub,
) -> Method:
    """Consistency training.

        E d(F(x_s, s, 0), sg[F*(x_m, m, 0)]),  m the point below s on EDM's grid, x_m of the same pair

    F* has averaged weights. Biased at a finite step, since the conditional velocity leads to x_m. The paper's code has
    LPIPS and another end of the grid: `variants.ct_cifar10`. Song et al. 2023, arXiv 2303.01469.

    Args:
        points: Progress in [0, 1] -> size of the grid; by default from 2 to 151, like the square root of the progress
            (`growing_points`).
        grid: Function from a number of intervals to the grid; by default EDM's, with its ends at data and noise.
        ema: Decay of the averaged weights, or progress -> decay; by default 0.9^(2 / points).
        weight: Distance and weight of the residual; by default the mean square.
        compare: Difference of two positions; by default their difference. `weight.plain` with another one.
    """
    points = growing_points() if points is None else points

    def decay(progress: float) -> float:
        return math.exp(2 * math.log(0.9) / points(progress))

    def now(term: Term, progress: float, grid: Grid = karras) -> Term:
        times = grid_of(grid, points(progress))
        return replace(term.given(to=below(times)), times=on(times))

    rule = partial(same_endpoint, solver=jump, compare=compare)
    target = {"jumps": averaged(decay if ema is None else ema)}
    curriculum = now if grid is karras else on_grid(now, grid)
    term = Term(rule, conditional, weight=weight, sources=target, curriculum=curriculum, name="eulerian")
    return Method(term, name="ct")


def grid_of(grid: Grid, points: int) -> Tensor:
    """A grid by the number of its points, as these papers count.

    Args:
        grid: Function from a number of intervals to the grid.
        points: Number of points.

    Raises:
        ValueError: If there are fewer than two points.
    """
    if points < 2:
        raise ValueError(f"a consistency model needs a grid of at least two points, got {points}")
    return grid(points - 1)


def on_grid(curriculum: Callable[[Term, float, Grid], Term], grid: Grid) -> Callable[[Term, float], Term]:
    """Bind a curriculum to a grid; a resumed run compares both."""
    return lambda term, progress: curriculum(term, progress, grid)


def growing_points(first: int = 2, last: int = 150) -> Callable[[float], int]:
    """The size of consistency training's grid, which grows like the square root of the progress.

        ceil(sqrt(progress ((last + 1)^2 - first^2) + first^2) - 1) + 1

    Song et al. 2023, arXiv 2303.01469.

    Args:
        first: Size at the start.
        last: Number of intervals at the end.

    Returns:
        Progress in [0, 1] -> number of points.
    """
    return lambda progress: math.ceil(math.sqrt(progress * ((last + 1) ** 2 - first**2) + first**2) - 1) + 1


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    output=POSITION,
    notes="t = 0 only, finite step, averaged target",
    published_cost=5,
    cost=5,
    shared=5,
    paper="song2023consistency",
    equation="E | F(x_s, s, 0) - sg[F*(x_m, m, 0)] |^2,  x_m a step of the teacher's ODE from x_s, F* averaged",
    gradient="F(x_s, s, 0)",
    only_target=0.0,
)
def cd(
    teacher: Any = None,
    *,
    points: int = 18,
    grid: Grid = karras,
    ema: float = 0.95,
    solver: Step = euler,
    weight: Weight = squared,
    compare: Compare = torch.sub,
) -> Method:
    """Consistency distillation.

        E d(F(x_s, s, 0), sg[F*(x_m, m, 0)]),  m the point below s on EDM's grid, x_m a step of the teacher's ODE

    F* has averaged weights. The paper's code has Heun's step, LPIPS and another end of the grid: `variants.cd_cifar10`
    and `variants.cd_imagenet64`. Song et al. 2023, arXiv 2303.01469.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Size of the grid.
        grid: Function from a number of intervals to the grid; by default EDM's, with its ends at data and noise.
        ema: Decay of the averaged weights, for each step.
        solver: Step of the ODE from x_s: `steps.euler` by default; `steps.heun` calls the teacher once more.
        weight: Distance and weight of the residual; by default the mean square.
        compare: Difference of two positions; by default their difference. Another distance, such as
            `perceptual.lpips()`, goes with `weight.plain`.
    """
    times = grid_of(grid, points)
    rule = partial(same_endpoint, to=below(times), solver=solver, compare=compare)
    target = {"jumps": averaged(ema)}
    term = Term(rule, fixed(teacher), times=on(times), weight=weight, sources=target, name="eulerian")
    return Method(term, name="cd")


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    output=POSITION,
    notes="finite step, compared at t = 0 through a frozen jump",
    published_cost=7,
    cost=8,
    shared=8,
    paper="kim2023consistency",
    equation="E | F'(F(x_s, s, t), t, 0) - sg[F'(F(x_m, m, t), t, 0)] |^2,  F' averaged, constant",
    gradient="F(x_s, s, t), through the input of F'",
)
def ctm(
    teacher: Any = None,
    *,
    points: int = 18,
    grid: Grid = karras,
    ema: float = 0.999,
    solver: Step = euler,
    denoising: float = 0.0,
    denoising_times: Times = logit_normal_diagonal(),
    denoising_weight: Weight = squared,
    discriminator: nn.Module | None = None,
    weight: Weight = squared,
    compare: Compare = torch.sub,
) -> Method:
    """Consistency trajectory models.

        E d(F'(F(x_s, s, t), t, 0), sg[F'(F(x_m, m, t), t, 0)]),  m the point below s on EDM's grid,
        x_m a step of the teacher's ODE

    F' has averaged weights, constant, while gradients pass through its input. The losses of `denoising` and
    `discriminator` are balanced with the first one by last-layer gradients. The paper's code has several Heun steps,
    LPIPS and the denoising loss: `variants.ctm_cifar10`. Kim et al. 2023, arXiv 2310.02279.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Size of the grid.
        grid: Function from a number of intervals to the grid; by default EDM's, with its ends at data and noise.
        ema: Decay of the averaged weights, for each step.
        solver: Step of the ODE from x_s; by default Euler's. `finite_steps.several(steps.heun, k)` takes k smaller
            steps.
        denoising: Share of the batch for the paper's denoising loss on the diagonal; 0 for none.
        denoising_times: Sampler of s in the denoising loss; by default logit-normal.
        denoising_weight: Distance and weight in the denoising loss; by default the mean square, in units of velocity.
        discriminator: A network x -> logits for the paper's adversarial loss; None for none.
        weight: Distance and weight of the first residual; by default the mean square.
        compare: Difference of two positions; by default their difference. `weight.plain` with another one.
    """
    times = grid_of(grid, points)
    adversarial = ADVERSARIAL_SHARE if discriminator is not None else 0.0
    rule = partial(same_endpoint_seen_at_data, to=below(times), solver=solver, compare=compare)
    terms = [
        Term(
            rule,
            fixed(teacher),
            share=1 - denoising - adversarial,
            times=on_pairs(times),
            weight=weight,
            sources={"outer": averaged(ema)},
            name="eulerian",
        )
    ]
    if denoising:
        balance = {"diffusion": gradient_ratio()}
        terms.append(Term(diffusion, share=denoising, times=denoising_times, weight=denoising_weight, balance=balance))
    if discriminator is not None:
        terms.append(adversarial_term(Discriminator(discriminator), adversarial))
    return Method(*terms, name="ctm")


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    output=POSITION,
    notes="t = 0 only, long steps, pseudo-Huber",
    cost=5,
    shared=5,
    paper="luo2023latent",
    equation="E d(F(x_s, s, 0), sg[F*(x_m, m, 0)]),  m = s - 1/50",
    gradient="F(x_s, s, 0)",
    only_target=0.0,
    after="scd",
)
def lcm(
    teacher: Any = None,
    *,
    points: int = 50,
    grid: Grid = uniform_grid,
    ema: float = 0.95,
    solver: Step = euler,
    weight: Weight = huber_each(0.001),
) -> Method:
    """Latent consistency models: consistency distillation with long steps on a uniform grid.

        E d(F(x_s, s, 0), sg[F*(x_m, m, 0)]),  m = s - 1/points, x_m a step of the teacher's ODE

    F* has averaged weights. For guidance pass a guided teacher. The step is DDIM's, which is Euler's on the linear
    path. The usual training script has the 50 DDIM times of Stable Diffusion and the mean square:
    `variants.lcm_ddim50`. Luo et al. 2023, arXiv 2310.04378.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Number of steps of the grid.
        grid: Function from a number of intervals to the grid; by default uniform.
        ema: Decay of the averaged weights, for each step.
        solver: Step of the ODE from x_s; by default Euler's.
        weight: Distance and weight of the residual; by default pseudo-Huber, coordinate by coordinate.
    """
    times = grid(points)
    rule = partial(same_endpoint, to=below(times), solver=solver)
    target = {"jumps": averaged(ema)}
    term = Term(rule, fixed(teacher), times=on(times), weight=weight, sources=target, name="eulerian")
    return Method(term, name="lcm")
