"""Posterior maps: flow maps whose samples are draws of the data given a noisy state.

No loss is new. The data carry a noisy state of each row (`fm.data.with_state`), the network takes it
(`fm.networks.StateInput`), and any method learns the map. These two functions are the papers' recipes. They are no rows
of the landscape, because they combine rules that have rows; `methods.BESIDE` lists them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..arguments import checked
from ..consistency import diffusion, lagrangian
from ..derivative import Derivative, jvp
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, uniform_diagonal, uniform_triangle
from ..velocity import Glass, VelocitySource, conditional, fixed, own
from ..weight import Weight, squared

__all__ = ["diamond", "meta_flow_map"]


@checked
def meta_flow_map(
    teacher: Any = None,
    *,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
    derivative: Derivative = jvp,
) -> Method:
    """Meta Flow Map: the posterior map of every noisy state, by Lagrangian self-distillation.

        E || V - sg[V(F, t, t) - (t - s) dV/dt] ||^2  +  E || V(xb_s, s, s) - u ||^2,  everything given x_r and r

    Train it on `fm.data.with_state(data)`, whose states have r = 1 - U^2, and r = 1 in a tenth of the rows. Both losses
    have the same weight. Potaptchik et al. 2026, Meta Flow Maps, arXiv 2601.14430.

    Args:
        teacher: A velocity of the data, which gives u as its GLASS velocity (`fm.velocity.Glass`), without the noise of
            the sampled pair. None: the sampled pair.
        times: Sampler of the inner times (s, t).
        diagonal_times: Sampler of s in the second term.
        weight: Distance and weight of both residuals; by default the mean square.
        derivative: Mode of the slope; by default forward mode with gradient.
    """
    rule = partial(lagrangian, derivative=derivative)
    return Method(
        Term(diffusion, _of_posterior(teacher), share=0.5, times=diagonal_times, weight=weight),
        Term(rule, own, share=0.5, times=times, weight=weight),
        name="meta_flow_map",
    )


@checked
def diamond(
    teacher: Any,
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(0.01, 0.99),
    diagonal_times: Times = uniform_diagonal(0.01, 0.99),
    weight: Weight = squared,
    derivative: Derivative = jvp,
) -> Method:
    """Posterior Diamond Map: the posterior map, distilled from a pretrained velocity through GLASS.

        E || V - sg[V(F, t, t) - (t - s) dV/dt] ||^2  +  E || V(xb_s, s, s) - v_glass ||^2,  everything given x_r and r

    Train it on `fm.data.with_state(data)`. The paper's training: Adam with rate 1e-4, batches of 128, gradients clipped
    at 1, a million steps. Holderrieth et al. 2026, Diamond maps, arXiv 2602.05993.

    Args:
        teacher: The velocity of the data, or a `fm.velocity.Glass` of it.
        diagonal: Share of the batch for the second term.
        times: Sampler of the inner times (s, t); by default uniform in [0.01, 0.99].
        diagonal_times: Sampler of s in the second term, likewise.
        weight: Distance and weight of both residuals; by default the mean square.
        derivative: Mode of the slope; by default forward mode with gradient.

    Raises:
        TypeError: The teacher has no velocity.
    """
    rule = partial(lagrangian, derivative=derivative)
    return Method(
        Term(diffusion, fixed(_glass(teacher)), share=diagonal, times=diagonal_times, weight=weight),
        Term(rule, own, share=1 - diagonal, times=times, weight=weight),
        name="diamond",
    )


def _of_posterior(teacher: Any) -> VelocitySource:
    """The velocity of the sampled pair, or the posterior velocity of a teacher."""
    return conditional if teacher is None else fixed(_glass(teacher))


def _glass(teacher: Any) -> Glass:
    """A teacher as a posterior velocity."""
    return teacher if isinstance(teacher, Glass) else Glass(teacher)
