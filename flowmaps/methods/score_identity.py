"""Score identity distillation: a Fisher divergence between samples and a teacher, by its identity."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..arguments import finite
from ..method.method import Method
from ..method.term import Term, from_noise
from ..method.turns import Turns
from ..score_matching import Factor, by_error, follow_samples, identify
from ..times.samplers import Times, uniform_diagonal
from ..velocity import MakeOptimizer, fixed
from ..weight import plain
from .distribution_matching import noise_at
from .parts import of_samples, one_jump
from .row import TEACHER, landscape_row

__all__ = ["sid"]


@landscape_row(
    rule="distribution",
    learning=TEACHER,
    notes="one jump from noise; costs 4 for the auxiliary and 7 in turn; no path, so no inversion and no likelihood",
    cost=5.5,
    shared=5.5,
    paper="zhou2024score",
    equation="E (<d, f_T - x> - a <d, d>) / sg[mean | x - f_T |],  d = (f_T - f_A)(x_l, l),  x = F(eps, 1, 0),\n"
    "E | w(x_l, l) - (n - sg[x]) |^2 for the auxiliary w with denoiser f_A, in turn",
    gradient="F(eps, 1, 0), also through the inputs of both denoisers; the auxiliary loss reaches w alone",
    gradient_of=("value", "teacher"),
    only_source=1.0,
    only_target=0.0,
    data_free=True,
)
def sid(
    teacher: Any = None,
    *,
    alpha: float = 1.0,
    updates: int = 1,
    noise_levels: Times = uniform_diagonal(0.02, 0.98),
    factor: Factor = by_error,
    optimizer: MakeOptimizer | None = None,
) -> Method:
    """Score identity distillation.

        E (<d, f_T - x> - alpha <d, d>) / sg[mean |x - f_T|],   d = (f_T - f_A)(x_l, l),   x = F(eps, 1, 0),
        E || w(x_l, l) - (n - sg[x]) ||^2 for the auxiliary velocity w, whose denoiser is f_A, in turn

    If f_A is exact, alpha = 1/2 gives half a Fisher divergence and its gradient. The papers take 1 and 1.2, which
    are gradients of nothing and correct for an auxiliary network that lags behind. The default 1 was better than 1/2
    and 1.2 on eight Gaussians. The shown value is the mean square of d. Start from the teacher's weights. Zhou et al.
    2024, arXiv 2404.04057.

    Args:
        teacher: A FlowMap or any object with velocity(x, t). The auxiliary network starts from it if it is a FlowMap,
            else from the flow.
        alpha: Factor of the second part.
        updates: Steps of the auxiliary network for each step of the flow.
        noise_levels: Sampler whose targets are the levels l.
        factor: Factor of each row.
        optimizer: Function that makes the optimizer of the auxiliary network; by default one like the flow's.

    Raises:
        ValueError: A number is below 1, or alpha is not finite.
    """
    finite(alpha=alpha)
    common: dict[str, Any] = {"velocity": fixed(teacher), "times": one_jump, "start": from_noise}
    common |= {"draws": noise_at(noise_levels), "sources": {"auxiliary": of_samples(teacher, optimizer)}}
    rule = partial(identify, alpha=alpha, factor=factor)
    return Turns(
        (updates, Method(Term(follow_samples, name="auxiliary", **common), name="auxiliary")),
        (1, Method(Term(rule, weight=plain, name="distribution", **common), name="generator")),
        name="sid",
    )
