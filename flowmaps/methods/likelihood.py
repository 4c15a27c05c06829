"""Methods whose maps know likelihoods: joint maps of state and log-density, and invertible maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from ..arguments import shown
from ..consistency import cycle, diffusion, eulerian
from ..derivative import Derivative, detached
from ..method.method import Method
from ..method.term import Term
from ..times import Times, both_directions, uniform_diagonal, uniform_triangle
from ..velocity import fixed, own
from ..velocity.divergence import Divergence, Hutchinson
from ..weight import Weight, by_interval, squared
from .joint_terms import joint_method
from .lagrangian import lmd, lsd
from .row import MARGINAL, SELF, landscape_row

__all__ = ["f2d2", "falcon"]


@landscape_row(
    rule="lagrangian",
    learning=SELF,
    notes="joint map of x and log p, both directions of time",
    cost=12,
    shared=5.5,
    paper="ai2025joint",
    equation="E | V + (t - s) dV/dt - sg[V(F(x_s, s, t), t, t)] |^2  +  E | V(x_s, s, s) - u |^2\n"
    "  +  E | D + (t - s) dD/dt - sg[D(F(x_s, s, t), t, t)] |^2  +  E | D(x_s, s, s) - div V(x_s, s, s) |^2",
    gradient="V and dV/dt, D and dD/dt",
    gradient_of=("value", "time"),
    head=True,
)
def f2d2(
    method: Method | Callable[[], Method] | None = None,
    teacher: Any = None,
    *,
    divergence: Divergence | None = None,
    weight: Weight = squared,
) -> Method:
    """F2D2, a joint flow map of the state and its log-density, trained by any method.

        dx/dt = v(x, t),  dl/dt = -div v(x, t):     F(x, s, t) = x + (t - s) V,   l_t = l_s - (t - s) D(x, s, t)

    D is the mean divergence along the path. The method's own rule is evaluated at the joint state: each of its losses
    stays as it is, and the loss of D stands beside it, under the name that ends in `_divergence`. The divergence of a
    velocity is an estimate without gradient, which enters every rule linearly, so that it is unbiased. D is learned in
    units of the head's scale, so both losses have size one.

    Train it on `fm.likelihood.joint_map(flow, x0)`; then `fm.likelihood.joint(steps)` evaluates it. Ai et al. 2025,
    arXiv 2512.02636; their distilled maps have a fixed head for the divergence in one direction of time.

    Args:
        method: The method, or its function. Give it `times=fm.times.both_directions(...)`, because likelihoods go from
            data to noise and samples from noise to data. None: `lsd` in both directions of time, or `lmd` of a teacher.
        teacher: A velocity whose divergence is learned, such as the one that the method distils. None: the teacher of
            the method, or the flow map's own velocity.
        divergence: The divergence of velocities, `fm.likelihood.exact()` or `hutchinson(probes)`. None: Hutchinson's
            estimate with one probe, which costs one derivative.
        weight: Weight of the residual of D / scale; by default the mean square. `weight.by_interval` gives it a factor.

    Returns:
        The method.

    Raises:
        TypeError: The method is something else.
        ValueError: The method has a discriminator.
    """
    trace = Hutchinson(1) if divergence is None else divergence
    made = _default(teacher) if method is None else method if isinstance(method, Method) else method
    made = made() if callable(made) and not isinstance(made, Method) else made
    if not isinstance(made, Method):
        raise TypeError(f"f2d2 takes a method, such as fm.methods.lsd(), or its function, got {shown(method)}")
    return joint_method(made, "f2d2", trace, weight, None if teacher is None else fixed(teacher))


def _default(teacher: Any) -> Method:
    """Lagrangian self-distillation, or distillation of a teacher, in both directions of time."""
    times = both_directions(uniform_triangle())
    return lsd(times=times) if teacher is None else lmd(teacher, times=times)


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="MeanFlow in both directions of time, with a cycle loss",
    cost=13,
    shared=4,
    paper="rehman2025falcon",
    equation="E | V(x_s, s, s) - u |^2  +  E | V - sg[u + (t - s)(dV/ds + grad_x V . u)] |^2\n"
    "  +  c E | x_s - F(F(x_s, s, t), t, s) |^2",
    gradient="V, and in the last part V(F, t, s) and its input",
    gradient_of=("value",),
)
def falcon(
    *,
    diagonal: float = 0.5,
    cycled: float = 0.25,
    strength: float = 10.0,
    times: Times = both_directions(uniform_triangle()),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
    derivative: Derivative = detached,
) -> Method:
    """FALCON, an invertible flow map with likelihoods of few jumps.

        E || V(x_s, s, s) - u ||^2  +  E || V - sg[u + (t - s)(dV/ds + grad_x V . u)] ||^2
          +  c E || x_s - F(F(x_s, s, t), t, s) ||^2,      both directions of time

    Flow matching, MeanFlow's term and the cycle loss, which makes jumps there and back each other's inverses. Then the
    jumps are a normalising flow: `fm.likelihood.jumps(steps)`, `fm.likelihood.sample`, and
    `fm.likelihood.invertibility` watches their determinants. The shares, times and c are ours. Rehman et al. 2025,
    arXiv 2512.09914.

    Args:
        diagonal: Share of the batch for flow matching.
        cycled: Share of the batch for the cycle loss; MeanFlow's term has the rest.
        strength: Factor c of the cycle loss, on its share of the batch. 0: no cycle loss.
        times: Sampler of (s, t) of the last two terms; by default uniform, in both directions.
        diagonal_times: Sampler of s of the first term.
        weight: Distance and weight of all residuals; by default the mean square.
        derivative: Mode of the slope; by default forward mode without gradient.

    Returns:
        The method.

    Raises:
        ValueError: The shares leave nothing for MeanFlow's term.
    """
    if not 0 < diagonal + cycled < 1:
        raise ValueError(f"the shares diagonal and cycled leave no rows for MeanFlow's term: {diagonal} and {cycled}")
    rest = 1 - diagonal - cycled

    def squared_distance(s: Tensor, t: Tensor) -> Tensor:
        return strength * (t - s) ** 2

    terms = [
        Term(diffusion, share=diagonal, times=diagonal_times, weight=weight),
        Term(partial(eulerian, derivative=derivative), share=rest, times=times, weight=weight),
        Term(cycle, own, share=cycled, times=times, weight=by_interval(squared_distance, weight)),
    ]
    return Method(*(terms if strength else terms[:2]), name="falcon")
