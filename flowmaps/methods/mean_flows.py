"""MeanFlow and its relatives: Eulerian methods that learn the marginal map from conditional velocities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..consistency import eulerian
from ..derivative import Derivative, detached
from ..finite_steps import Compare
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, after_u_shape, logit_normal_diagonal, logit_normal_pairs
from ..velocity import own
from ..weight import Weight, adaptive, by_interval, learned_cauchy, plain, squared
from .parts import with_diffusion
from .row import MARGINAL, POSITION, landscape_row

__all__ = ["meanflow", "imf", "dmf", "rectified_meanflow", "pixel_meanflow"]


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="target stopped",
    published_cost=4,
    cost=4,
    shared=3.25,
    paper="geng2025mean",
    equation="E | V - sg[u + (t - s)(dV/ds + grad_x V . u)] |^2,  u = eps - x_0",
    gradient="V",
)
def meanflow(
    *,
    diagonal: float = 0.75,
    times: Times = logit_normal_pairs(),
    power: float = 1.0,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """MeanFlow.

        E || V - sg[u + (t - s)(dV/ds + grad_x V . u)] ||^2,  u = eps - x_0

    Geng et al. 2025, arXiv 2505.13447. For CIFAR-10 the paper's code has other times, weight and share:
    `variants.meanflow_cifar10`.

    Args:
        diagonal: Share of the rows with t = s, where the loss is flow matching.
        times: Sampler of (s, t); by default two logit-normal draws, sorted.
        power: Power of the adaptive weight.
        weight: Another distance and weight of the residual; None for `weight.adaptive(power)`.
        derivative: Mode of the slope; by default forward mode without gradient.
    """
    weight = adaptive(power) if weight is None else weight
    term = Term(partial(eulerian, derivative=derivative), times=times, weight=weight)
    return Method(*with_diffusion(diagonal, term), name="meanflow")


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="derivative along the own velocity",
    published_cost=5,
    cost=5,
    shared=4,
    paper="geng2025improved",
    equation="E | V + (s - t) sg[dV/ds + grad_x V . V(x_s, s, s)] - u |^2",
    gradient="V",
)
def imf(
    *,
    diagonal: float = 0.5,
    times: Times = logit_normal_pairs(),
    power: float = 1.0,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """Improved MeanFlow.

        E || W - u ||^2,  W = V + (s - t) sg[dV/ds + grad_x V . V(x_s, s, s)],  u = eps - x_0

    The derivative runs along the flow's own velocity. (The post prints (t - s) in W; the identity it starts from gives
    (s - t).) The main results of the paper have an auxiliary head for the velocity, which is not offered. Geng et al.
    2025, arXiv 2512.02012.

    Args:
        diagonal: Share of the rows with t = s, where the loss is flow matching.
        times: Sampler of (s, t); by default two logit-normal draws, sorted.
        power: Power of the adaptive weight.
        weight: Another distance and weight of the residual; None for `weight.adaptive(power)`.
        derivative: Mode of the slope; by default forward mode without gradient.
    """
    weight = adaptive(power) if weight is None else weight
    return Method(*_improved(diagonal, times, weight, derivative), name="imf")


def _improved(diagonal: float, times: Times, weight: Weight, derivative: Derivative) -> tuple[Term, Term]:
    """The two terms of improved MeanFlow."""
    rule = partial(eulerian, derivative=derivative)
    return with_diffusion(diagonal, Term(rule, times=times, weight=weight, sources={"along": own}))


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="decoupled layers, learned Cauchy loss",
    cost=7,
    shared=3.5,
    paper="lee2025decoupled",
    equation="MeanFlow's two terms under  log(exp(-p(s, t)) |r|^2/D + 1) + p(s, t)/2",
    gradient="V and the learned p",
)
def dmf(
    *,
    diagonal: float = 0.5,
    times: Times = logit_normal_pairs(0.4, 1.0, -1.2, 1.0),
    diagonal_times: Times = logit_normal_diagonal(0.0, 1.0),
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """Decoupled MeanFlow: the two terms of MeanFlow with separate times, under a learned Cauchy loss.

        log(exp(-p(s, t)) |r|^2/D + 1) + p(s, t)/2,  r the residual of MeanFlow or of flow matching

    The early layers of the network see s and the late ones t (`networks.embeddings.decoupled`), so it may start from a
    velocity network without changes. Lee, Yu and Shin 2025, arXiv 2510.24474.

    Args:
        diagonal: Share of the batch for flow matching.
        times: Sampler of (s, t) in MeanFlow's term; by default two logit-normal draws, sorted.
        diagonal_times: Sampler of s in the flow matching term; by default logit-normal.
        weight: Another distance and weight of both residuals; None for `weight.learned_cauchy()`.
        derivative: Mode of the slope; by default forward mode without gradient.
    """
    weight = learned_cauchy() if weight is None else weight
    term = Term(partial(eulerian, derivative=derivative), times=times, weight=weight)
    return Method(*with_diffusion(diagonal, term, diagonal_times), name="dmf")


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="MeanFlow on reflow couplings",
    cost=4,
    shared=3.25,
    paper="zhang2025overcoming",
    equation="MeanFlow's loss on couplings (eps, x_0) made by a teacher's ODE",
    gradient="V",
    coupled=True,
)
def rectified_meanflow(
    *,
    diagonal: float = 0.75,
    times: Times = after_u_shape(),
    weight: Weight = adaptive(0.5, 1e-2, squared),
    derivative: Derivative = detached,
) -> Method:
    """Rectified MeanFlow: MeanFlow's loss on couplings of noise and data that a teacher made, with straighter paths.

    The couplings are data: `data.reflow(teacher, data)`, or noise= of the loss. Zhang et al. 2025, arXiv 2511.23342;
    reflow is from Liu, Gong and Liu 2023, arXiv 2209.03003. The paper's code leaves out distant couplings, and s ends
    at 80/81: `variants.rectified_meanflow_official`.

    Args:
        diagonal: Share of the rows with t = s, where the loss is flow matching.
        times: Sampler of (s, t); by default s favours both ends.
        weight: Distance and weight of the residual; by default adaptive with power 1/2.
        derivative: Mode of the slope; by default forward mode without gradient.
    """
    term = Term(partial(eulerian, derivative=derivative), times=times, weight=weight)
    return Method(*with_diffusion(diagonal, term), name="rectified_meanflow")


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    output=POSITION,
    notes="improved MeanFlow that predicts the denoised field",
    cost=5,
    shared=4,
    paper="lu2026one",
    equation="improved MeanFlow's loss;  V = (x_s - D)/s for a network that predicts D",
    gradient="V",
)
def pixel_meanflow(
    *,
    diagonal: float = 0.5,
    times: Times = logit_normal_pairs(0.8, 0.8),
    power: float = 1.0,
    weight: Weight | None = None,
    compare: Compare | None = None,
    perceptual: float = 0.2,
    until: float = 0.8,
    derivative: Derivative = detached,
) -> Method:
    """Pixel MeanFlow: improved MeanFlow's loss, with a perceptual distance of the denoised field to the data.

        E || W - u ||^2,  W as in `imf`,  +  E d(x_s - s V, x_0) for s < until

    For a network that predicts the denoised field x_s - s V (`Endpoint`). The paper's code draws the diagonal apart and
    has two perceptual distances: `variants.pixel_meanflow_official`. Lu et al. 2026, arXiv 2601.22158.

    Args:
        diagonal: Share with t = s of the rows of the first term.
        times: Sampler of (s, t); by default two logit-normal draws towards noise, sorted.
        power: Power of the adaptive weight.
        weight: Another distance and weight of the first residual; None for `weight.adaptive(power)`.
        compare: The distance d, such as `perceptual.lpips()`; None for the first term only.
        perceptual: Share of the batch for the distance.
        until: Largest source time at which the distance counts.
        derivative: Mode of the slope; by default forward mode without gradient.
    """
    weight = adaptive(power) if weight is None else weight
    terms = _improved(diagonal, times, weight, derivative)
    if compare is None:
        return Method(*terms, name="pixel_meanflow")
    seen = by_interval(lambda s, t: (s < until).to(s), plain)
    return Method(
        *(replace(term, share=(1 - perceptual) * term.share) for term in terms),
        Term(partial(denoised, compare=compare), share=perceptual, times=times, weight=seen),
        name="pixel_meanflow",
    )


def denoised(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, compare: Callable[..., Any] = torch.sub
) -> Any:
    """The denoised field of the linear path against the data of the pair.

        compare(x_s - s V(x_s, s, t), x_0)

    Args:
        flow: The flow map.
        teacher: The velocity of the sampled pair.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        compare: Distance of two fields, or distances by name; by default their difference.

    Returns:
        The result of `compare`: a distance (B, ...), or distances by name.
    """
    return compare(x - s * flow.average_velocity(x, s, t), teacher.pair.x0)
