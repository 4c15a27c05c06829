"""Moment matching distillation: after an ancestral step, samples have the conditional means of the teacher."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from ..arguments import at_least
from ..consistency import guarded, on_the_diagonal
from ..derivative import stop
from ..draws import Numbers, normal, uniform
from ..method.method import Method
from ..method.term import Term
from ..method.turns import Turns
from ..score_matching import denoised, needs_marginals, pull
from ..times.samplers import Times, uniform_diagonal
from ..velocity import MakeOptimizer, fixed
from ..weight import plain
from .parts import of_samples
from .row import POSITION, TEACHER, landscape_row

__all__ = ["moment_matching"]


@landscape_row(
    rule="distribution",
    learning=TEACHER,
    output=POSITION,
    notes="several ancestral steps; costs 5 and 5 in turn; needs data; its denoiser is a sampler and no velocity",
    cost=5,
    shared=5,
    paper="salimans2024multistep",
    equation="E <y, sg[(f_A - f_T)(x_r, r)]>,  y = f(x_s, s),  x_r a draw of p(x_r | x_s, x_0 = sg[y]),\n"
    "E | f_A(x_r, r) - sg[y] |^2 + E | f_A(x_r, r) - f_T(x_r, r) |^2 for the auxiliary f_A, in turn",
    gradient="V(x_s, s, s); the auxiliary loss reaches f_A alone",
    gradient_of=("value",),
    few_step=8,
    sampled="ancestral steps, such as `sample(flow, noise, steps=8, step=steps.ancestral)`; no ODE, no likelihood",
)
def moment_matching(
    teacher: Any = None,
    *,
    steps: int = 8,
    updates: int = 1,
    times: Times = uniform_diagonal(1e-3, 1.0),
    optimizer: MakeOptimizer | None = None,
) -> Method:
    """Moment matching distillation, for several ancestral steps.

        E <y, sg[(f_A - f_T)(x_r, r)]>,   y = f(x_s, s),   x_r ~ p(x_r | x_s, x_0 = sg[y]),   s - r <= 1/steps,
        E || f_A(x_r, r) - sg[y] ||^2 + E || f_A(x_r, r) - f_T(x_r, r) ||^2 for the auxiliary f_A, in turn

    The denoiser f of the flow map becomes a generator: its ancestral steps (`steps.ancestral`) draw from the teacher's
    law if x_r gives y the teacher's mean. It is no velocity afterwards, so that steps of the ODE and likelihoods are
    wrong. Start from the teacher's weights. Salimans, Mensink, Heek and Hoogeboom 2024, arXiv 2406.04103.

    Args:
        teacher: A FlowMap or any object with velocity(x, t). The auxiliary network starts from it if it is a FlowMap,
            else from the flow.
        steps: Number of steps of the sampler; s - r is uniform up to 1/steps.
        updates: Steps of the auxiliary network for each step of the flow.
        times: Sampler of s.
        optimizer: Function that makes the optimizer of the auxiliary network; by default one like the flow's.

    Raises:
        ValueError: A number is below 1.
    """
    at_least(1, steps=steps)
    draws: dict[str, Numbers] = {"noise": normal, "gap": lambda n, like: uniform(n, like) / steps}
    term = partial(
        Term, velocity=fixed(teacher), times=times, draws=draws, sources={"auxiliary": of_samples(teacher, optimizer)}
    )
    return Turns(
        (updates, Method(term(follow_moments), name="auxiliary")),
        (1, Method(term(match_moments, weight=plain, name="distribution"), name="generator")),
        name="moment_matching",
    )


def _earlier(flow: Any, sample: Tensor, x: Tensor, s: Tensor, noise: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """A state of the ancestral kernel p(x_r | x_s, sample), and its time r = max(s - gap, 0)."""
    r = (s - gap).clamp(min=0)
    mean, std = flow.path.posterior(x, sample, s, r)
    return mean + (std * noise).to(x.dtype), r


@on_the_diagonal
@guarded(needs_marginals)
def match_moments(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, noise: Tensor, gap: Tensor, auxiliary: Any
) -> Tensor:
    """The rule of moment matching for the flow: after an ancestral step, samples have the teacher's mean.

        gradient at y:  (f_A - f_T)(x_r, r),   y = f(x_s, s) the flow's denoiser,   x_r ~ p(x_r | x_s, x_0 = y)

    Salimans et al. 2024, arXiv 2406.04103.

    Args:
        flow: The flow map, whose denoiser makes the sample.
        teacher: The teacher's velocity.
        x: States x_s of data, (B, ...).
        s: Times, (B, 1, ...).
        t: The same times.
        noise: Noise of the ancestral step, of the shape of x.
        gap: Lengths s - r of the step, (B, 1, ...).
        auxiliary: The flow map of the samples' mean.

    Returns:
        The loss of each row, (B, 1).
    """
    sample = denoised(flow, flow.path, x, s)
    x_r, r = _earlier(flow, stop(sample), x, s, noise, gap)
    f_A, f_T = (stop(denoised)(model, flow.path, x_r, r) for model in (auxiliary, teacher))
    return pull(sample, f_A - f_T, f_T.new_ones(()))


match_moments.ancestral = True  # type: ignore[attr-defined]  # the denoised field learns samples


@on_the_diagonal
@guarded(needs_marginals)
def follow_moments(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, noise: Tensor, gap: Tensor, auxiliary: Any
) -> dict[str, Tensor]:
    """The second flow map of `match_moments`, between the samples' mean and the teacher: f_A - y and f_A - f_T at x_r.

    At the minimum of the sum of both squares, f_A is the middle of E[y | x_r] and f_T. Arguments as for
    `match_moments`.

    Returns:
        Both residuals by name, of the shape of x.
    """
    sample = stop(denoised)(flow, flow.path, x, s)
    x_r, r = _earlier(flow, sample, x, s, noise, gap)
    f_A = denoised(auxiliary, flow.path, x_r, r)
    return {"auxiliary": f_A - sample, "teacher": f_A - stop(denoised)(teacher, flow.path, x_r, r)}
