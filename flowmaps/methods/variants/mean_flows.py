"""MeanFlow and its relatives with the settings of their papers' code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from torch import Tensor

from ...finite_steps import Compare, eulerian_step
from ...flow_map import FlowMap
from ...method.method import Method
from ...method.term import Term
from ...path import Time, expand
from ...perceptual import lpips
from ...times import mixture
from ...times.modifiers import at_most
from ...times.samplers import (
    Times,
    after_u_shape,
    logit_normal_below,
    logit_normal_diagonal,
    logit_normal_pairs,
)
from ...velocity import Pair
from ...velocity.sources import Conditional
from ...weight import Weight, adaptive, by_interval, plain, squared
from ..mean_flows import denoised, meanflow, pixel_meanflow, rectified_meanflow
from ..parts import clamped
from ..shrinking_steps import alphaflow, geometric, soflow
from .record import variant

__all__ = [
    "meanflow_cifar10", "alphaflow_official", "soflow_imagenet", "soflow_cifar10", "rectified_meanflow_official",
    "pixel_meanflow_official",
]  # fmt: skip


@variant(
    meanflow,
    setting='the code of the paper, for CIFAR-10, times "v1"',
    sets="s keeps its distribution: a quarter of the rows is on the diagonal, then t = min(second draw, s)",
    shared=3.75,
)
def meanflow_cifar10(
    *, diagonal: float = 0.25, times: Times = logit_normal_below(-0.6, 1.6, -4.0, 1.6), weight: Weight | None = None
) -> Method:
    """`meanflow` as in the code of the paper, for CIFAR-10, with its second version of the times.

    First a quarter of the rows gets t = s, then the others get t = min(second draw, s), so that s keeps its
    distribution on both. The weight has power 0.75 and constant 0.001.

    Args:
        diagonal: Share of the rows with t = s.
        times: Sampler of (s, t).
        weight: Another distance and weight of the residual; None for the code's.
    """
    return meanflow(diagonal=diagonal, times=times, weight=adaptive(0.75, 1e-3) if weight is None else weight)


@variant(
    alphaflow,
    setting="the code of the paper",
    sets="diagonal with a single logit-normal draw, on half of the rows; targets of finite steps clamped at 4",
    cost=7,
    shared=3.5,
)
def alphaflow_official(
    *,
    diagonal: float = 0.5,
    ratio: Callable[[float], float] | None = None,
    bound: float = 4.0,
    weight: Weight | None = None,
) -> Method:
    """`alphaflow` as in the code of the paper.

    The source on the diagonal is a single logit-normal draw. Half of the rows are on the diagonal, as in the code
    without guidance and for its largest network; 0.25 is its share with guidance. While a > 0 the target is clamped.

    Args:
        diagonal: Share of the rows with t = s.
        ratio: Progress in [0, 1] -> a; by default from 1 to 0 in a sigmoid.
        bound: Bound of the values of a target while a > 0.
        weight: Another distance and weight of the residual; None for the weight of `alphaflow`.
    """
    method = alphaflow(diagonal=diagonal, diagonal_times=logit_normal_diagonal(), ratio=ratio, weight=weight)
    flat, jumps = method.terms
    assert jumps.curriculum is not None
    return Method(flat, replace(jumps, curriculum=partial(limited, then=jumps.curriculum, limit=clamped(bound))))


@variant(
    soflow,
    setting="the code of the paper, for ImageNet 256 x 256",
    sets="s keeps its distribution: t = min(second draw, s - 0.0001) in place of sorted draws",
)
def soflow_imagenet(*, diagonal: float = 0.75, weight: Weight | None = None) -> Method:
    """`soflow` with the times of the code: t = min(second draw, s - 0.0001), so that s keeps its distribution.

    The code's finite step is not shorter than 0.0001 either. Here two average velocities are subtracted, so short steps
    lose no digits, and the step stays r (s - t).

    Args:
        diagonal: Share of the batch for the second term.
        weight: Another distance and weight of both residuals; None for the weights of `soflow`.
    """
    return soflow(diagonal=diagonal, times=logit_normal_below(0.2, 0.8, -1.0, 0.8, 1e-4), weight=weight)


@variant(
    soflow,
    setting="the code of the paper, for CIFAR-10",
    sets="no second term; t = min(second draw, s - 0.0001); step from the whole interval down to 1/3200 of it",
    cost=4,
    shared=4,
)
def soflow_cifar10(*, ratio: Callable[[float], float] | None = None, weight: Weight | None = None) -> Method:
    """`soflow` as in the code of the paper, for CIFAR-10: the finite step alone, without the diagonal.

    The step falls from the whole interval to 3.125e-4 of it. The weight has power 0.75 and constant 0.001.

    Args:
        ratio: Progress in [0, 1] -> r; by default from 1 to 3.125e-4, geometrically.
        weight: Another distance and weight of the residual; None for the code's.
    """
    return soflow(
        diagonal=0.0,
        times=logit_normal_below(-0.9, 1.6, -4.0, 1.6, 1e-4),
        ratio=geometric(1.0, 3.125e-4) if ratio is None else ratio,
        power=0.75,
        c=1e-3,
        weight=weight,
    )


@variant(
    rectified_meanflow,
    setting="the code of the paper",
    sets="only couplings with mean (eps - x_0)^2 below 0.87; s is at most 80/81",
    sampled="from s = 80/81 with the noise unchanged, as in the code: x - V(x, 80/81, 0)",
    levels=True,
)
def rectified_meanflow_official(
    *, diagonal: float = 0.75, farthest: float = 0.87, weight: Weight = adaptive(0.5, 1e-2, squared)
) -> Method:
    """`rectified_meanflow` as in the code of the paper: couplings that are far apart do not count, and s <= 80/81.

    The code removes these couplings from its data; here their rows count as zero. The code's guidance in the second
    half of training is `fm.guidance.meanflow`.

    Args:
        diagonal: Share of the rows with t = s.
        farthest: Largest mean square of eps - x_0 of a coupling that counts.
        weight: Distance and weight of the residual; by default adaptive with power 1/2.
    """
    method = rectified_meanflow(diagonal=diagonal, times=at_most(after_u_shape(), 80 / 81), weight=weight)
    return Method(*(replace(term, factor=partial(is_near, farthest=farthest)) for term in method.terms))


@variant(
    pixel_meanflow,
    setting="the code of the paper",
    sets="diagonal with a single draw; least time 0.05 in velocities; LPIPS and a second distance for s < 0.8",
    cost=11,
    shared=3.8,
)
def pixel_meanflow_official(
    *,
    diagonal: float = 0.5,
    min_time: float = 0.05,
    compare: Compare | None = None,
    convnext: Compare | None = None,
    perceptual: float = 0.2,
    until: float = 0.8,
    weight: Weight | None = None,
) -> Method:
    """`pixel_meanflow` as in the code of the paper.

        E w || W - u ||^2  +  0.4 E w d(x_s - s V, x_0)  +  0.1 E w d'(x_s - s V, x_0),  distances for s < until

    with w the inverse of each value, u = (x_s - x_0)/max(s, min_time), and a single logit-normal draw on the diagonal.
    The network predicts the denoised field with the same least time, `outputs.Endpoint(min_time=0.05)`. The code's
    second distance is between features of a ConvNeXt V2, which no package of this library has: give its network to
    `perceptual.features`. Its auxiliary head for the velocity is not offered.

    Args:
        diagonal: Share with t = s of the rows.
        min_time: Least s in the velocity of a pair.
        compare: The distance d; None for `perceptual.lpips()`.
        convnext: The distance d'; None for no such term.
        perceptual: Share of the batch for the distances. They keep their proportion to the first term.
        until: Largest source time at which the distances count.
        weight: Another distance and weight of the first residual; None for `weight.adaptive(1)`.
    """
    pairs, flat = logit_normal_pairs(0.8, 0.8), logit_normal_diagonal(0.8, 0.8)
    first = pixel_meanflow(diagonal=diagonal, times=pairs, weight=weight)
    on_diagonal, jumps = (
        replace(term, velocity=Floored(min_time), share=(1 - perceptual) * term.share) for term in first.terms
    )
    found = {"lpips": (0.4, lpips() if compare is None else compare)}
    found |= {"convnext": (0.1, convnext)} if convnext is not None else {}
    ratio = (1 - perceptual) / perceptual
    seen = Term(
        partial(denoised, compare=partial(distances, named={name: one for name, (_, one) in found.items()})),
        share=perceptual,
        times=mixture(diagonal, flat, pairs),
        name="distances",
        weight={
            name: by_interval(partial(below_time, until=until, factor=ratio * factor), adaptive(1.0, 1e-2, plain))
            for name, (factor, _) in found.items()
        },
    )
    return Method(replace(on_diagonal, times=flat), jumps, seen)


def limited(
    term: Term, progress: float, *, then: Callable[[Term, float], Term], limit: Callable[[Tensor], Tensor]
) -> Term:
    """Curriculum `then`, with the targets of its finite steps bounded.

    Args:
        term: The term.
        progress: Share of training that is done.
        then: The curriculum.
        limit: Function that bounds a target.

    Returns:
        The term at that moment.
    """
    now = then(term, progress)
    return now.given(limit=limit) if getattr(now.rule, "func", None) is eulerian_step else now


def is_near(pair: Pair, *, farthest: float) -> Tensor:
    """Factor of a coupling, (B,): 1 if the mean of (eps - x_0)^2 is below `farthest`, else 0."""
    gap = (pair.eps - pair.x0).flatten(1).square().mean(1)
    return (gap < farthest).to(gap)


def below_time(s: Tensor, t: Tensor, *, until: float, factor: float) -> Tensor:
    """Factor of rows, (B,): `factor` for s < until, else 0."""
    return factor * (s < until).to(s)


@dataclass(frozen=True)
class Floored:
    """Velocity source: the velocity of a pair on the linear path, (x_s - x_0)/max(s, min_time).

    Args:
        min_time: Least time in the denominator.
    """

    min_time: float
    conditional: ClassVar[bool] = True

    def __call__(self, flow: FlowMap, pair: Pair) -> FlooredVelocity:
        """The velocity of a batch of pairs, as a teacher."""
        return FlooredVelocity(pair, self.min_time)


@dataclass(frozen=True)
class FlooredVelocity(Conditional):
    """The velocity of `Floored`."""

    min_time: float

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """The velocity, of x's shape: eps - x_0 from the least time on, and less below it."""
        return super().velocity(x, t) * (expand(t, x) / self.min_time).clamp(max=1).to(x.dtype)


def distances(a: Tensor, b: Tensor, *, named: Mapping[str, Compare]) -> dict[str, Tensor]:
    """Several distances of two fields, by name; `compare` of the rule `denoised`."""
    return {name: distance(a, b) for name, distance in named.items()}
