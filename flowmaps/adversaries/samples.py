"""Rules of samples against data, clean or at a noise level."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..consistency import guarded
from ..derivative import stop
from ..matching import needs_the_pair
from ..networks.layers import full_precision
from .critics import Game, judge, logits_and_slope, slope_by_noise, with_constant_weights


def adversarial(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, discriminator: Any, penalty: float = 0.1
) -> dict[str, Tensor]:
    """A relativistic pairing loss with zero-centred gradient penalties (R1 and R2), on x = F(noise, s, t) and data x_0.

        adversarial, for the flow:  softplus(-(D(x) - D(x_0)))
        discriminator, for D:       softplus(D(x) - D(x_0)) + penalty/2 (|grad D(x_0)|^2 + |grad D(x)|^2)

    Each is stopped for the other's weights. The loss of Align Your Flow's second stage (arXiv 2506.14603); Huang et al.
    2024, arXiv 2501.05441.

    Args:
        flow: The flow map.
        teacher: The sampled pair, for its data and condition.
        x: Noise, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        discriminator: The network D, (x, condition) -> logits.
        penalty: Factor of the gradient penalties.

    Returns:
        Both losses by name, (B, ...) as the logits are.
    """
    data, samples = teacher.pair.x0, flow(x, s, t)
    condition = teacher.pair.condition
    fixed = judge(with_constant_weights(discriminator), condition)
    (on_real, real_slope), (on_fake, fake_slope) = (
        logits_and_slope(judge(discriminator, condition), stop(z)) for z in (data, samples)
    )
    return {
        "adversarial": F.softplus(stop(fixed)(data) - fixed(samples)),
        "discriminator": F.softplus(on_fake - on_real) + penalty / 2 * (real_slope + fake_slope),
    }


@guarded(needs_the_pair)
def discriminate_noised(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    game: Game,
    level: Tensor,
    noise: Tensor,
    nearby: Tensor,
    penalty: float,
    spread: float,
) -> dict[str, Tensor]:
    """A critic of samples F(x_s, s, 0) and data x_0, both at one noise level and with the same noise.

        loss of (D(a x_0 + b n), D(a F + b n)) + penalty (D(y + spread n') - D(y))^2 / spread^2,   y = a x_0 + b n

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, which are 0.
        discriminator: The critic D, (x, level, condition) -> logits.
        game: The losses of the logits.
        level: Times (B, 1, ...) of the noise; 0 for clean samples.
        noise: Normal numbers n of x's shape.
        nearby: Normal numbers n' of x's shape.
        penalty: Factor of the penalty of the slope.
        spread: Size of its noise.

    Returns:
        The loss and the margin by name, (B, n) as the logits are.
    """
    pair = teacher.pair
    D = judge(discriminator, pair.condition, level)
    with full_precision(x.device):
        real, fake = (pair.path.interpolate(z, noise, level) for z in (pair.x0, stop(flow)(x, s, 0.0)))
        on_real, on_fake = D(real), D(fake)
        slope = slope_by_noise(D, real, on_real, nearby, spread)
    return {"discriminator": game.critic(on_real, on_fake) + penalty * slope, "margin": stop(on_real - on_fake)}


@guarded(needs_the_pair)
def deceive_noised(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    game: Game,
    level: Tensor,
    noise: Tensor,
) -> Tensor:
    """The flow against the critic of `discriminate_noised`, with its arguments. Returns the loss (B, n)."""
    pair = teacher.pair
    D = judge(with_constant_weights(discriminator), pair.condition, level)
    return game.flow(D(pair.path.interpolate(flow(x, s, 0.0), noise, level)))


def deceive_and_follow(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    data: Any,
    game: Game,
    level: Tensor,
    noise: Tensor,
    strength: float,
) -> dict[str, Tensor]:
    """The flow against the critic of clean samples, beside the distance from the denoiser f of a teacher.

        loss of D(y) + strength a |y - sg f(a y + b n)|^2,   y = F(x_s, s, 0),  a, b the path at the noise level

    Args:
        flow: The flow map.
        teacher: The teacher.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, which are 0.
        discriminator: The critic D, (x, 0, condition) -> logits.
        data: The sampled pair.
        game: The losses of the logits.
        level: Times (B, 1, ...) of the noise that the teacher removes.
        noise: Normal numbers n of x's shape.
        strength: Factor of the distance.

    Returns:
        Both losses by name: (B, n) as the logits are, the distance (B, ...).
    """
    pair, sample = data.pair, flow(x, s, 0.0)
    D = judge(with_constant_weights(discriminator), pair.condition, torch.zeros_like(s))
    target = stop(teacher.field)(pair.path.interpolate(stop(sample), noise, level), level, level)
    distance = strength * pair.path.alpha(level) * (sample - target).square()
    return {"adversarial": game.flow(D(sample)), "distillation": distance}
