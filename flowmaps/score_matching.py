"""Rules that match distributions by the difference of two denoisers: of a teacher, and of the samples.

- match: samples move down the gradient of a divergence (DMD; with a ratio of densities, f-distill)
- identify: a Fisher divergence, by its identity for exact denoisers (SiD)
- follow_samples, judge_samples: the losses of the networks beside the flow

x = F(x_s, s, 0) is a sample, and x_l = alpha(l) x + sigma(l) n is the same sample noised to a level l. f_T is the
denoiser of the teacher, and f_A of a second flow map, which learns the distribution of the samples. Then

    f_A - f_T = (sigma(l)^2/alpha(l)) (grad log q_l - grad log p_l)

with the densities q_l of noised samples and p_l of noised data. The shown value of the rules for the flow is the mean
square of f_A - f_T, an estimate of the Fisher divergence of q_l and p_l: their losses have no informative value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .consistency import guarded
from .derivative import stop
from .matching import with_value
from .path import Path, data, velocity
from .velocity import constant, is_conditional

Factor = Callable[[Tensor, Tensor, Tensor, Path], Tensor]
"""(sample, f_T, level, path) -> factor of a row's gradient, (B, 1, ...)."""

Divergence = Callable[[Tensor], Tensor]
"""r = p/q -> h(r) = r^2 f''(r), of the f-divergence E_q f(p/q)."""


def by_error(sample: Tensor, denoised: Tensor, level: Tensor, path: Path) -> Tensor:
    """DMD's factor 1 / mean |x - f_T|, which makes the gradients of all noise levels equally large."""
    error = (sample - denoised).abs().mean(tuple(range(1, sample.ndim)), keepdim=True)
    return 1 / error.clamp(min=1e-5)


def by_level(sample: Tensor, denoised: Tensor, level: Tensor, path: Path) -> Tensor:
    """The factor alpha^2/sigma^2 that makes DMD's gradient the gradient of KL(q_l | p_l)."""
    return (path.alpha(level) / path.sigma(level)) ** 2


def reverse_kl(r: Tensor) -> Tensor:
    """The factor h = 1 of KL(q | p), f = -log r: DMD without a ratio."""
    return r**0


def forward_kl(r: Tensor) -> Tensor:
    """The factor h = r of KL(p | q), f = r log r: it covers modes, and its gradient varies most."""
    return r


def jeffreys(r: Tensor) -> Tensor:
    """The factor h = 1 + r of KL(p | q) + KL(q | p), f = (r - 1) log r."""
    return 1 + r


def jensen_shannon(r: Tensor) -> Tensor:
    """The factor h = r/(1 + r) of twice the Jensen-Shannon divergence, f = r log r - (1 + r) log((1 + r)/2)."""
    return r / (1 + r)


def squared_hellinger(r: Tensor) -> Tensor:
    """The factor h = sqrt(r)/2 of the squared Hellinger distance, f = (1 - sqrt(r))^2."""
    return r.sqrt() / 2


def needs_marginals(source: Any, options: Mapping[str, Any]) -> str | None:
    """Guard of rules that evaluate the teacher at samples: the reason why a sampled pair is wrong there, else None."""
    if is_conditional(source):
        return (
            "this rule compares denoisers at samples, where the velocity of a sampled pair has no meaning: take "
            "fixed(teacher)"
        )
    return None


def denoised(model: Any, path: Path, x: Tensor, level: Tensor) -> Tensor:
    """f(x, l) of a velocity: x - l v(x, l) on the linear path."""
    return path.convert(model.velocity(x, level), x, level, velocity, data)


def pull(sample: Tensor, difference: Tensor, factor: Tensor) -> Tensor:
    """Loss (B, 1) with the gradient factor * difference at the sample, over the number of coordinates.

    Its value is the mean square of the difference.
    """
    return with_value(_mean(difference.square()), _mean(sample * stop(factor * difference)))


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1, keepdim=True)


@guarded(needs_marginals)
def match(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    noise: Tensor,
    level: Tensor,
    auxiliary: Any,
    factor: Factor = by_error,
    judge: Any = None,
    divergence: Divergence = reverse_kl,
    bounds: tuple[float, float] = (0.1, 10.0),
) -> Tensor:
    """The rule of distribution matching distillation for the flow, and of f-distill with a judge.

        gradient at x:  factor h(r) (f_A - f_T)(x_l, l),   r = e^D(x_l, l)

    The judge's logit D is the mean over coordinates of its velocity. Yin et al. 2023, arXiv 2311.18828; Xu, Nie and
    Vahdat 2025, arXiv 2502.15681.

    Args:
        flow: The flow map.
        teacher: The teacher's velocity.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times; not used, for samples are at t = 0.
        noise: Noise n, of the shape of x.
        level: Levels l, (B, 1, ...).
        auxiliary: The flow map of the samples.
        factor: Factor of each row.
        judge: The flow map of the logit. None: h = 1.
        divergence: Function h of the ratio r.
        bounds: Least and largest ratio.

    Returns:
        The loss of each row, (B, 1).
    """
    sample, path = flow(x, s, torch.zeros_like(t)), flow.path
    noised = path.interpolate(stop(sample), noise, level)
    f_A, f_T = (stop(denoised)(model, path, noised, level) for model in (auxiliary, teacher))
    weight = factor(stop(sample), f_T, level, path)
    if judge is not None:
        ratio = stop(logit)(judge, noised, level).exp().clamp(*bounds)
        weight = weight * divergence(ratio).reshape(level.shape)
    return pull(sample, f_A - f_T, weight)


def logit(judge: Any, x: Tensor, level: Tensor) -> Tensor:
    """Logit of data against samples, (B, 1): the mean over coordinates of a velocity."""
    return _mean(judge.velocity(x, level))


@guarded(needs_marginals)
def match_beside(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    noise: Tensor,
    level: Tensor,
    auxiliary: Any,
    factor: Factor = by_error,
) -> dict[str, Tensor]:
    """`match` and `follow_samples` at the same points, which share a pass of the second flow map.

    Arguments as for `match`.

    Returns:
        The loss "distribution", (B, 1), and the residual "auxiliary", of the shape of x.
    """
    sample, path = flow(x, s, torch.zeros_like(t)), flow.path
    noised = path.interpolate(stop(sample), noise, level)
    w = auxiliary.velocity(noised, level)
    f_A, f_T = path.convert(stop(w), noised, level, velocity, data), stop(denoised)(teacher, path, noised, level)
    return {
        "distribution": pull(sample, f_A - f_T, factor(stop(sample), f_T, level, path)),
        "auxiliary": w - path.velocity(stop(sample), noise, level),
    }


def follow_samples(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, noise: Tensor, level: Tensor, auxiliary: Any
) -> Tensor:
    """Flow matching of the second flow map w on samples: w(x_l, l) - u. The flow has no gradient.

    Arguments as for `match`; the teacher is not used.

    Returns:
        The residual, of the shape of x.
    """
    sample = stop(flow)(x, s, torch.zeros_like(t))
    return auxiliary.velocity(flow.path.interpolate(sample, noise, level), level) - flow.path.velocity(
        sample, noise, level
    )


def judge_samples(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    noise: Tensor,
    level: Tensor,
    auxiliary: Any,
    judge: Any,
    pair: Any,
) -> dict[str, Tensor]:
    """`follow_samples`, and the logistic loss of a judge of noised data and noised samples, with D = log(p_l/q_l).

        softplus(-D(noised data)) + softplus(D(x_l))

    Arguments as for `match`, and `pair`, the sampled pair with its data.

    Returns:
        The residual "auxiliary", of the shape of x, and the loss "judge", (B, 1).
    """
    sample, path = stop(flow)(x, s, torch.zeros_like(t)), flow.path
    noised, real = (path.interpolate(one, noise, level) for one in (sample, pair.pair.x0))
    return {
        "auxiliary": auxiliary.velocity(noised, level) - path.velocity(sample, noise, level),
        "judge": F.softplus(-logit(judge, real, level)) + F.softplus(logit(judge, noised, level)),
    }


@guarded(needs_marginals)
def identify(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    noise: Tensor,
    level: Tensor,
    auxiliary: Any,
    alpha: float,
    factor: Factor = by_error,
) -> Tensor:
    """The rule of score identity distillation for the flow, differentiated through the inputs of both denoisers.

        factor (d . (f_T - x) - alpha d . d),   d = (f_T - f_A)(x_l, l)

    If f_A is exact, its mean is (1 - alpha) E factor |d|^2. With alpha = 1/2, its gradient is the one of that half
    Fisher divergence; with other alpha it is none. Zhou et al. 2024, arXiv 2404.04057.

    Args:
        flow: The flow map.
        teacher: The teacher's velocity.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times; not used, for samples are at t = 0.
        noise: Noise n, of the shape of x.
        level: Levels l, (B, 1, ...).
        auxiliary: The flow map of the samples.
        alpha: Factor of the second part.
        factor: Factor of each row, without gradient.

    Returns:
        The loss of each row, (B, 1).
    """
    sample, path = flow(x, s, torch.zeros_like(t)), flow.path
    noised = path.interpolate(sample, noise, level)
    f_T, f_A = (denoised(model, path, noised, level) for model in (teacher, constant(auxiliary)))
    d = f_T - f_A
    loss = stop(factor(sample, f_T, level, path)) * (d * (f_T - sample) - alpha * d.square())
    return with_value(_mean(d.square()), _mean(loss))
