"""The diffusion model itself, as a method: what every flow map is held against."""

from __future__ import annotations

from ..consistency import diffusion
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, logit_normal_diagonal
from ..velocity import VelocitySource, conditional
from ..weight import Weight, squared


def flow_matching(
    *, times: Times = logit_normal_diagonal(0.0, 1.0), weight: Weight = squared, velocity: VelocitySource = conditional
) -> Method:
    """Flow matching:  E || V(x_s, s, s) - u ||^2,  u = alpha' x_0 + sigma' eps. Lipman et al. 2023, arXiv 2210.02747.

    It trains the diagonal only: sample it with `steps.euler`, not with jumps.
    """
    return Method(Term(diffusion, velocity, times=times, weight=weight), name="flow_matching")
