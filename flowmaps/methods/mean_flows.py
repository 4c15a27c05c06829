"""MeanFlow and its relatives: Eulerian methods that learn the marginal map from conditional velocities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..consistency import diffusion, eulerian
from ..derivative import Derivative, detached
from ..finite_steps import Compare, eulerian_step
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, after_u_shape, logit_normal_diagonal, logit_normal_pairs
from ..velocity import VelocitySource, conditional, own
from ..weight import Weight, adaptive, by_interval, learned_cauchy, plain, squared


def meanflow(
    *,
    diagonal: float = 0.75,
    times: Times = logit_normal_pairs(),
    power: float = 1.0,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """MeanFlow:  E || V - sg[u + (t - s)(dV/ds + grad_x V . u)] ||^2,  u = eps - x_0;  `diagonal` is the share of rows
    with t = s.

    weight: by default adaptive(power). Geng et al. 2025, arXiv 2505.13447.
    """
    weight = adaptive(power) if weight is None else weight
    return Method(*on_and_off_the_diagonal(diagonal, times, weight, derivative), name="meanflow")


def on_and_off_the_diagonal(
    diagonal: float,
    times: Times,
    weight: Weight,
    derivative: Derivative,
    diagonal_times: Times | None = None,
    **sources: VelocitySource,
) -> tuple[Term, Term]:
    """MeanFlow's two terms: the diffusion rule on a share of the rows, the Eulerian one along conditional velocities on
    the others.
    """
    return (
        Term(diffusion, share=diagonal, times=diagonal_times or times, weight=weight),
        Term(
            partial(eulerian, derivative=derivative),
            conditional,
            share=1 - diagonal,
            times=times,
            weight=weight,
            sources=sources,
        ),
    )


def imf(
    *,
    diagonal: float = 0.5,
    times: Times = logit_normal_pairs(),
    power: float = 1.0,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """Improved MeanFlow:  E || W - u ||^2,  W = V + (s - t) sg[dV/ds + grad_x V . V(x_s, s, s)],  u = eps - x_0.

    The derivative runs along the flow's own velocity. (The post prints (t - s) in W; the identity it starts from gives
    (s - t).) weight: by default adaptive(power). Geng et al. 2025, arXiv 2512.02012.
    """
    weight = adaptive(power) if weight is None else weight
    return Method(*on_and_off_the_diagonal(diagonal, times, weight, derivative, along=own), name="imf")


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
    """SoFlow:  E w <V(x_s, s, t), sg[D]>,  D = (F(x_s, s, t) - F(x_m, m, t))/(m - s),  m = s + r (t - s), x_m = x_s +
    (m - s) u, and  E || V(x_s, s, s) - u ||^2.

    Its gradient is that of  || V - sg[r u + (1 - r) V(x_m, m, t)] ||^2 / r  up to a constant. r = ratio(progress)
    falls from 0.1 to 0.002, geometrically. Weights 1/(mean square + c)^power, of D and of the diffusion residual;
    weight: another one for both. Luo, Yuan and Liu 2025, arXiv 2512.15657.
    """
    ratio = geometric(0.1, 0.002) if ratio is None else ratio
    own_weight = adaptive(power, c, squared)

    def now(term: Term, progress: float) -> Term:
        r = ratio(progress)
        # the residual is sqrt(r) D, and the weight belongs to D
        of_difference = by_interval(lambda s, t: r**power * torch.ones_like(s), adaptive(power, c * r, squared))
        return replace(term.given(ratio=r), weight=weight or of_difference)

    return Method(
        Term(diffusion, share=diagonal, times=diagonal_times, weight=weight or own_weight),
        Term(eulerian_step, conditional, share=1 - diagonal, times=times, curriculum=now, name="eulerian"),
        name="soflow",
    )


def alphaflow(
    *,
    diagonal: float = 0.25,
    times: Times = logit_normal_pairs(),
    ratio: Callable[[float], float] | None = None,
    c: float = 1e-3,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """AlphaFlow:  E || V - sg[a u + (1 - a) V(x_m, m, t)] ||^2 / a,  m = s + a (t - s), x_m = x_s + (m - s) u;
    MeanFlow once a = 0.

    a = ratio(progress) goes from 1 (flow matching along the interval) to 0 in a sigmoid. weight: by default sg[a/(|V
    - ...|^2 + c)], as in the paper. Zhang et al. 2025, arXiv 2510.20771.
    """
    ratio = sigmoid_fall() if ratio is None else ratio

    def now(term: Term, progress: float) -> Term:
        a = ratio(progress)
        rule = partial(eulerian_step, ratio=a) if a > 0 else partial(eulerian, derivative=derivative)
        # the residual is (V - ...)/sqrt(a), and c belongs to V - ...
        return replace(term, rule=rule, weight=weight or (adaptive(1.0, c / a) if a > 0 else adaptive(1.0, c)))

    return Method(
        Term(diffusion, share=diagonal, times=times, weight=weight or adaptive(1.0, c)),
        Term(eulerian_step, conditional, share=1 - diagonal, times=times, curriculum=now, name="eulerian"),
        name="alphaflow",
    )


def geometric(first: float, last: float) -> Callable[[float], float]:
    """first (last/first)^progress."""
    return lambda progress: first * (last / first) ** progress


def sigmoid_fall(
    begin: float = 0.0, end: float = 1.0, steepness: float = 25.0, edge: float = 5e-3
) -> Callable[[float], float]:
    """1 - sigmoid(steepness ((progress - middle) / (end - begin))), exactly 1 and 0 within `edge` of them (arXiv
    2510.20771).
    """

    def value(progress: float) -> float:
        a = 1 - 1 / (1 + math.exp(-steepness * (progress - (begin + end) / 2) / (end - begin)))
        return 1.0 if a > 1 - edge else 0.0 if a < edge else a

    return value


def dmf(
    *,
    diagonal: float = 0.5,
    times: Times = logit_normal_pairs(0.4, 1.0, -1.2, 1.0),
    diagonal_times: Times = logit_normal_diagonal(0.0, 1.0),
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """Decoupled MeanFlow: MeanFlow's two terms, on draws of their own, under a learned Cauchy loss  log(exp(-p(s, t))
    |r|^2/D + 1) + p(s, t)/2.

    For a network whose early layers see s and the late ones t (`networks.embeddings.decoupled`), which may start from a
    velocity network as it is. weight: of both terms, `weight.learned_cauchy()` by default. Lee, Yu and Shin 2025, arXiv
    2510.24474.
    """
    weight = learned_cauchy() if weight is None else weight
    return Method(*on_and_off_the_diagonal(diagonal, times, weight, derivative, diagonal_times), name="dmf")


def rectified_meanflow(
    *,
    diagonal: float = 0.75,
    times: Times = after_u_shape(),
    weight: Weight = adaptive(0.5, 1e-2, squared),
    derivative: Derivative = detached,
) -> Method:
    """Rectified MeanFlow: MeanFlow's loss on couplings of noise and data that a teacher made, whose paths are
    straighter.

    The couplings are data: `data.reflow(teacher, data)`, or noise= of the loss. Zhang et al. 2025, arXiv 2511.23342;
    reflow is from Liu, Gong and Liu 2023, arXiv 2209.03003.
    """
    return Method(*on_and_off_the_diagonal(diagonal, times, weight, derivative), name="rectified_meanflow")


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
    """Pixel MeanFlow: improved MeanFlow,  E || W - u ||^2,  for a network that predicts the denoised field x_s - s V
    (`Endpoint`), and a perceptual distance of x_s - s V to x_0 for s < `until`.

    compare: the distance, as `perceptual` has them, on a share `perceptual` of the rows; None: none. Lu et al. 2026,
    arXiv 2601.22158.
    """
    weight = adaptive(power) if weight is None else weight
    terms = on_and_off_the_diagonal(diagonal, times, weight, derivative, along=own)
    if compare is None:
        return Method(*terms, name="pixel_meanflow")
    seen = by_interval(lambda s, t: (s < until).to(s), plain)
    return Method(
        *(replace(term, share=(1 - perceptual) * term.share) for term in terms),
        Term(partial(denoised, compare=compare), share=perceptual, times=times, weight=seen),
        name="pixel_meanflow",
    )


def denoised(flow: object, teacher: object, x: Tensor, s: Tensor, t: Tensor, *, compare: Compare = torch.sub) -> Tensor:
    """compare(x_s - s V(x_s, s, t), x_0): the denoised field of the linear path against the data of the pair."""
    return compare(x - s * flow.average_velocity(x, s, t), teacher.pair.x0)  # type: ignore[attr-defined]
