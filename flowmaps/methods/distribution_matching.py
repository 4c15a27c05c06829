"""Distribution matching distillation: samples move down the gradient of a divergence from their law to a teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ..arguments import at_least
from ..draws import Numbers, normal
from ..method.method import Method
from ..method.term import Restarted, Term, from_noise
from ..method.turns import Turns
from ..score_matching import (
    Divergence,
    Factor,
    by_error,
    follow_samples,
    jensen_shannon,
    judge_samples,
    match,
    match_beside,
)
from ..times import Times, grid, to_data, uniform_diagonal
from ..velocity import Auxiliary, Discriminator, MakeOptimizer, conditional, fixed
from ..weight import plain, squared
from .adversarial import ADVERSARIAL_SHARE, adversarial_term
from .parts import of_samples, one_jump
from .row import TEACHER, landscape_row

__all__ = ["dmd", "dmd2", "f_distill"]


def noise_at(times: Times) -> dict[str, Numbers]:
    """Random numbers of the rules: noise, and its levels, which are the targets t of a sampler of times."""

    def level(n: int, like: Tensor) -> Tensor:
        return times(n, 0.0, like)[1].reshape(n, *[1] * (like.ndim - 1))

    return {"noise": normal, "level": level}


@landscape_row(
    rule="distribution",
    learning=TEACHER,
    notes="one jump from noise, auxiliary network beside; no path, so no inversion and no likelihood",
    cost=7,
    shared=7,
    paper="yin2023one",
    equation="E <x, sg[(f_A - f_T)(x_l, l) / mean | x - f_T |]>,  x = F(eps, 1, 0),\n"
    "E | w(x_l, l) - (n - sg[x]) |^2 for the auxiliary w with denoiser f_A,  x_l = (1 - l) sg[x] + l n",
    gradient="F(eps, 1, 0); the auxiliary loss reaches w alone",
    only_source=1.0,
    only_target=0.0,
    data_free=True,
)
def dmd(
    teacher: Any = None,
    *,
    noise_levels: Times = uniform_diagonal(0.02, 0.98),
    factor: Factor = by_error,
    optimizer: MakeOptimizer | None = None,
) -> Method:
    """Distribution matching distillation.

        gradient at x = F(eps, 1, 0):  (f_A - f_T)(x_l, l) / mean |x - f_T|,   x_l = (1 - l) sg[x] + l n,
        E || w(x_l, l) - (n - sg[x]) ||^2 for the auxiliary velocity w, whose denoiser is f_A

    The shown value is the mean square of f_A - f_T. Flow and auxiliary network take every step together; give the
    auxiliary a larger learning rate, or take `dmd2`. Start from the teacher's weights. The paper's regression on pairs
    of noise and teacher's samples is left out, as in `dmd2`. Yin et al. 2023, arXiv 2311.18828.

    Args:
        teacher: A FlowMap or any object with velocity(x, t). The auxiliary network starts from it if it is a FlowMap,
            else from the flow.
        noise_levels: Sampler whose targets are the levels l.
        factor: Factor of each row's gradient; `score_matching.by_level` for the gradient of KL.
        optimizer: Function that makes the optimizer of the auxiliary network; by default one like the flow's. Ten
            times the flow's learning rate is a good choice.
    """
    term = Term(
        partial(match_beside, factor=factor),
        fixed(teacher),
        times=one_jump,
        weight={"distribution": plain, "auxiliary": squared},
        draws=noise_at(noise_levels),
        sources={"auxiliary": of_samples(teacher, optimizer)},
        start=from_noise,
        name="distribution",
    )
    return Method(term, name="dmd")


@landscape_row(
    rule="distribution",
    learning=TEACHER,
    notes="jumps to t = 0 from noise or a few levels; five steps of cost 4 for the auxiliary, then one of 5; no path",
    cost=4.17,
    shared=4.17,
    paper="yin2024improved",
    equation="E <x, sg[(f_A - f_T)(x_l, l) / mean | x - f_T |]>,  x = F(x_s, s, 0), x_s a state of the sampler,\n"
    "E | w(x_l, l) - (n - sg[x]) |^2 for the auxiliary w with denoiser f_A, in turn",
    gradient="F(x_s, s, 0); the auxiliary loss reaches w alone",
    only_target=0.0,
    data_free=True,
)
def dmd2(
    teacher: Any = None,
    *,
    steps: int = 1,
    updates: int = 5,
    adversary: Discriminator | None = None,
    strength: float = 0.1,
    noise_levels: Times = uniform_diagonal(0.02, 0.98),
    factor: Factor = by_error,
    optimizer: MakeOptimizer | None = None,
) -> Method:
    """Improved distribution matching distillation: `dmd` in turns, for one or a few steps.

        gradient at x = F(x_s, s, 0):  (f_A - f_T)(x_l, l) / mean |x - f_T|,   x_l = (1 - l) sg[x] + l n,
        E || w(x_l, l) - (n - sg[x]) ||^2 for the auxiliary velocity w, whose denoiser is f_A, in turn

    x_s is a state of the map's own sampler, which jumps to t = 0 and adds noise again (`steps.restart`); s is one of
    1, 1 - 1/steps, ..., 1/steps. With an adversary it needs data, and a quarter of the generator's rows have the
    adversarial loss of `methods.adversarial`, whose networks both move in the generator's turn. Start from the
    teacher's weights. Yin et al. 2024, arXiv 2405.14867.

    Args:
        teacher: A FlowMap or any object with velocity(x, t). The auxiliary network starts from it if it is a FlowMap,
            else from the flow.
        steps: Number of jumps of the sampler. Each state costs up to steps - 1 more passes.
        updates: Steps of the auxiliary network for each step of the flow.
        adversary: Discriminator of data and samples. None: no adversarial loss.
        strength: Ratio of the adversarial gradient to the other.
        noise_levels: Sampler whose targets are the levels l.
        factor: Factor of each row's gradient.
        optimizer: Function that makes the optimizer of the auxiliary network; by default one like the flow's.

    Raises:
        ValueError: A number is below 1.
    """
    at_least(1, steps=steps)
    jumps, start = to_data(grid(steps)), Restarted(tuple(k / steps for k in range(steps, 0, -1)))
    common: dict[str, Any] = {"velocity": fixed(teacher), "times": jumps, "start": start}
    common |= {"draws": noise_at(noise_levels), "sources": {"auxiliary": of_samples(teacher, optimizer)}}
    generator = [Term(partial(match, factor=factor), weight=plain, name="distribution", **common)]
    if adversary is not None:
        generator = [replace(generator[0], share=1 - ADVERSARIAL_SHARE)]
        generator += [replace(adversarial_term(adversary, ADVERSARIAL_SHARE, strength), times=jumps, start=start)]
    return Turns(
        (updates, Method(Term(follow_samples, name="auxiliary", **common), name="auxiliary")),
        (1, Method(*generator, name="generator")),
        name="dmd2",
    )


@landscape_row(
    rule="distribution",
    learning=TEACHER,
    notes="one jump from noise; five steps of cost 10 for auxiliary and judge, then one of 6; needs data; no path",
    cost=9.33,
    shared=9.33,
    paper="xu2025one",
    equation="E h(sg[r]) <x, sg[(f_A - f_T)(x_l, l) / mean | x - f_T |]>,  r = exp(D(x_l, l)),  x = F(eps, 1, 0),\n"
    "E | w(x_l, l) - (n - sg[x]) |^2 for the auxiliary w, and a logistic loss for D, in turn",
    gradient="F(eps, 1, 0); the other losses reach w and D alone",
    only_source=1.0,
    only_target=0.0,
)
def f_distill(
    teacher: Any = None,
    *,
    divergence: Divergence = jensen_shannon,
    bounds: tuple[float, float] = (0.1, 10.0),
    updates: int = 5,
    noise_levels: Times = uniform_diagonal(0.02, 0.98),
    factor: Factor = by_error,
    optimizer: MakeOptimizer | None = None,
    judge_optimizer: MakeOptimizer | None = None,
) -> Method:
    """f-distill: distribution matching distillation of another divergence, by a ratio of densities.

        gradient at x = F(eps, 1, 0):  h(r) (f_A - f_T)(x_l, l) / mean |x - f_T|,   r = e^{D(x_l, l)}

    For the f-divergence E_q f(p/q) the factor is h(r) = r^2 f''(r), with the second derivative of f. D, the logit of
    noised data against noised samples, is the mean over coordinates of a network like the flow's, by the logistic loss.
    The functions h are `score_matching.forward_kl`, `reverse_kl` (which is `dmd2`), `jeffreys`,
    `jensen_shannon` and `squared_hellinger`. The papers' adversarial loss beside it is left out. Start from the
    teacher's weights. Xu, Nie and Vahdat 2025, arXiv 2502.15681.

    Args:
        teacher: A FlowMap or any object with velocity(x, t). The auxiliary network starts from it if it is a FlowMap,
            else from the flow, as the network of D does.
        divergence: Function h of the ratio r of data to samples.
        bounds: Least and largest ratio.
        updates: Steps of the networks beside the flow for each step of the flow.
        noise_levels: Sampler whose targets are the levels l.
        factor: Factor of each row's gradient.
        optimizer: Function that makes the optimizer of the auxiliary network; by default one like the flow's.
        judge_optimizer: The same for the network of D.

    Raises:
        ValueError: A number is below 1, or the bounds are not in order.
    """
    low, high = bounds
    if not 0 < low <= high:
        raise ValueError(f"bounds are the least and the largest ratio of densities, 0 < low <= high, got {bounds}")
    common: dict[str, Any] = {"velocity": fixed(teacher), "times": one_jump, "start": from_noise}
    common |= {"draws": noise_at(noise_levels)}
    beside = {"auxiliary": of_samples(teacher, optimizer), "judge": Auxiliary(None, judge_optimizer)}
    rule: Callable[..., Tensor] = partial(match, factor=factor, divergence=divergence, bounds=bounds)
    learn = Term(
        judge_samples,
        weight={"auxiliary": squared, "judge": plain},
        sources=beside | {"pair": conditional},
        name="auxiliary",
        **common,
    )
    generator = Term(rule, weight=plain, sources=beside, name="distribution", **common)
    return Turns((updates, Method(learn, name="auxiliary")), (1, Method(generator, name="generator")), name="f_distill")
