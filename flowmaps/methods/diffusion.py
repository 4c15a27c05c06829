"""The diffusion model itself, as a method: the baseline of every flow map."""

from __future__ import annotations

from ..consistency import diffusion
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, logit_normal_diagonal
from ..velocity import VelocitySource, conditional
from ..weight import Weight, squared
from .row import MARGINAL, landscape_row

__all__ = ["flow_matching"]


@landscape_row(
    rule="diffusion",
    learning=MARGINAL,
    notes="the diagonal only",
    cost=3,
    shared=3,
    paper="lipman2023flow",
    equation="E | V(x_s, s, s) - u |^2,  u = eps - x_0",
    gradient="V",
    gradient_of=("diagonal",),
)
def flow_matching(
    *, times: Times = logit_normal_diagonal(0.0, 1.0), weight: Weight = squared, velocity: VelocitySource = conditional
) -> Method:
    """Flow matching.

        E || V(x_s, s, s) - u ||^2,  u = alpha' x_0 + sigma' eps

    It trains the diagonal only: sample it with `steps.euler`, not with jumps. Lipman et al. 2023, arXiv 2210.02747.

    Args:
        times: Sampler of s; by default logit-normal.
        weight: Distance and weight of the residual; by default the mean square.
        velocity: Source of u; by default the velocity of the sampled pair.
    """
    return Method(Term(diffusion, velocity, times=times, weight=weight), name="flow_matching")
