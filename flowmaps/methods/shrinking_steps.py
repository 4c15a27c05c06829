"""Eulerian methods with a finite step along the conditional velocity, which shrinks in the course of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ..consistency import diffusion, eulerian
from ..derivative import Derivative, detached
from ..finite_steps import eulerian_step
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, logit_normal_diagonal, logit_normal_pairs
from ..velocity import conditional
from ..weight import Weight, adaptive, by_interval, squared
from .row import MARGINAL, SELF, landscape_row

__all__ = ["soflow", "alphaflow"]


@landscape_row(
    rule="eulerian",
    learning=SELF,
    notes="finite step stopped; biased",
    published_cost=7,
    cost=7,
    shared=3.25,
    paper="luo2025soflow",
    equation="E | V - sg[r u + (1 - r) V(x_m, m, t)] |^2 / r  +  E | V(x_s, s, s) - u |^2,  m = s + r (t - "
    "s), x_m = x_s + (m - s) u",
    gradient="V(x_s, s, t)",
    after="ayf_emd",
)
def soflow(
    *,
    diagonal: float = 0.75,
    times: Times = logit_normal_pairs(0.2, 0.8, -1.0, 0.8),
    diagonal_times: Times = logit_normal_diagonal(-0.2, 1.0),
    ratio: Callable[[float], float] | None = None,
    power: float = 1.0,
    c: float = 1e-2,
    weight: Weight | None = None,
) -> Method:
    """SoFlow.

        E w <V(x_s, s, t), sg[D]>,  D = (F(x_s, s, t) - F(x_m, m, t))/(m - s),  m = s + r (t - s),
          x_m = x_s + (m - s) u,  and  E || V(x_s, s, s) - u ||^2

    The first loss has the gradient of || V - sg[r u + (1 - r) V(x_m, m, t)] ||^2 / r, up to a constant factor. The
    paper's code does not sort the times: `variants.soflow_imagenet`, and `variants.soflow_cifar10` without the second
    loss. Luo, Yuan and Liu 2025, arXiv 2512.15657.

    Args:
        diagonal: Share of the batch for the second term; 0 for none.
        times: Sampler of (s, t) in the first term; by default two logit-normal draws, sorted.
        diagonal_times: Sampler of s in the second term; by default logit-normal.
        ratio: Progress in [0, 1] -> r; by default from 0.1 to 0.002, geometrically.
        power: Power of the weights 1/(mean square + c)^power, of D and of the second residual.
        c: Constant of the weights.
        weight: Another distance and weight of both residuals; None for these weights.
    """
    ratio = geometric(0.1, 0.002) if ratio is None else ratio
    own_weight = adaptive(power, c, squared)

    def now(term: Term, progress: float) -> Term:
        r = ratio(progress)
        # the residual is sqrt(r) D, and the weight belongs to D
        of_difference = by_interval(lambda s, t: r**power * torch.ones_like(s), adaptive(power, c * r, squared))
        return replace(term.given(ratio=r), weight=weight or of_difference)

    flat = [Term(diffusion, share=diagonal, times=diagonal_times, weight=weight or own_weight)] if diagonal else []
    jumps = Term(eulerian_step, conditional, share=1 - diagonal, times=times, curriculum=now, name="eulerian")
    return Method(*flat, jumps, name="soflow")


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="from a finite step to MeanFlow; biased until then",
    cost=4,
    shared=3.75,
    paper="zhang2025alphaflow",
    equation="E | V - sg[a u + (1 - a) V(x_m, m, t)] |^2 / a,  m = s + a (t - s);  MeanFlow at a = 0",
    gradient="V(x_s, s, t)",
    after="imf",
)
def alphaflow(
    *,
    diagonal: float = 0.25,
    times: Times = logit_normal_pairs(),
    diagonal_times: Times | None = None,
    ratio: Callable[[float], float] | None = None,
    c: float = 1e-3,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """AlphaFlow.

        E || V - sg[a u + (1 - a) V(x_m, m, t)] ||^2 / a,  m = s + a (t - s), x_m = x_s + (m - s) u;  MeanFlow at a = 0

    a goes from 1 (flow matching along the interval) to 0. The paper's code draws the diagonal apart and clamps targets:
    `variants.alphaflow_official`. Zhang et al. 2025, arXiv 2510.20771.

    Args:
        diagonal: Share of the rows with t = s, where the loss is flow matching.
        times: Sampler of (s, t); by default two logit-normal draws, sorted.
        diagonal_times: Sampler of s on the diagonal; None for s of `times`.
        ratio: Progress in [0, 1] -> a; by default from 1 to 0 in a sigmoid.
        c: Constant of the weight sg[a/(m + c)] m of the loss of a row, m the mean over coordinates of (V - ...)^2.
        weight: Another distance and weight of the residual; None for this weight, the paper's.
        derivative: Mode of the slope once a = 0; by default forward mode without gradient.
    """
    ratio = sigmoid_fall() if ratio is None else ratio

    def now(term: Term, progress: float) -> Term:
        a = ratio(progress)
        rule = partial(eulerian_step, ratio=a) if a > 0 else partial(eulerian, derivative=derivative)
        return replace(term, rule=rule, weight=weight or (step_weight(a, c) if a > 0 else adaptive(1.0, c, squared)))

    return Method(
        Term(diffusion, share=diagonal, times=diagonal_times or times, weight=weight or adaptive(1.0, c, squared)),
        Term(eulerian_step, conditional, share=1 - diagonal, times=times, curriculum=now, name="eulerian"),
        name="alphaflow",
    )


def step_weight(a: float, c: float) -> Weight:
    """AlphaFlow's weight sg[a/(m + c)] m of the residual (V - ...)/sqrt(a), with m the mean square of V - ...

    V - ... shrinks like a, so that m/(m + c) alone has a gradient that grows like 1/a.

    Args:
        a: Ratio of the step to the interval, in (0, 1].
        c: Constant that bounds the weight of small residuals.

    Returns:
        The weight.
    """
    return by_interval(lambda s, t: a * torch.ones_like(s), adaptive(1.0, c / a, squared))


def geometric(first: float, last: float) -> Callable[[float], float]:
    """A geometric fall with the progress: first (last/first)^progress."""
    return lambda progress: first * (last / first) ** progress


def sigmoid_fall(
    begin: float = 0.0, end: float = 1.0, steepness: float = 25.0, edge: float = 5e-3
) -> Callable[[float], float]:
    """A fall from 1 to 0 in a sigmoid.

        1 - sigmoid(steepness (progress - middle) / (end - begin)),  middle = (begin + end)/2

    Zhang et al. 2025, arXiv 2510.20771.

    Args:
        begin: Progress at which it begins.
        end: Progress at which it ends.
        steepness: Slope of the sigmoid.
        edge: Distance from 1 and from 0 within which the value is exactly 1 and 0.

    Returns:
        Progress in [0, 1] -> the value.
    """

    def value(progress: float) -> float:
        a = 1 - 1 / (1 + math.exp(-steepness * (progress - (begin + end) / 2) / (end - begin)))
        return 1.0 if a > 1 - edge else 0.0 if a < edge else a

    return value
