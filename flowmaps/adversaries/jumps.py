"""Rules of adversarial flow models: jumps against states on the path."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..consistency import guarded
from ..derivative import stop
from ..matching import needs_the_pair
from ..networks.layers import full_precision
from .critics import judge, slope_by_noise, with_constant_weights

SHORTEST = 1e-3
"""The least length of a jump that divides."""


@guarded(needs_the_pair)
def discriminate(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    noise: Tensor,
    penalty: float,
    spread: float,
    centring: float,
) -> dict[str, Tensor]:
    """The critic of adversarial flow models: states x_t on the path against jumps G = F(x_s, s, t) from the same path.

        softplus(D(G) - D(x_t)) + penalty |s - t| (r(x_t) + r(G)) + centring (D(x_t) + D(G))^2,
        r(x) = (D(x + spread n) - D(x))^2 / spread^2, with mean |grad D|^2 for a small spread

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        discriminator: The critic D, (x, t, condition) -> logits.
        noise: Normal numbers n of x's shape.
        penalty: Factor of both penalties of the slope.
        spread: Size of the noise.
        centring: Factor of the squared sum of logits.

    Returns:
        The loss and the margin by name, (B, n) as the logits are.
    """
    D = judge(discriminator, teacher.pair.condition, t)
    with full_precision(x.device):
        real, fake = teacher(x, s, t), stop(flow)(x, s, t)
        on_real, on_fake = D(real), D(fake)
        slopes = slope_by_noise(D, real, on_real, noise, spread) + slope_by_noise(D, fake, on_fake, noise, spread)
        regular = penalty * (s - t).abs().reshape(-1, 1) * slopes + centring * (on_real + on_fake).square()
    return {"discriminator": F.softplus(on_fake - on_real) + regular, "margin": stop(on_real - on_fake)}


@guarded(needs_the_pair)
def deceive(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, discriminator: Any, transport: float
) -> dict[str, Tensor]:
    """The flow of adversarial flow models, against the critic of `discriminate`.

        softplus(D(x_t) - D(G)) + transport |G - x_s|^2 / |s - t|,   G = F(x_s, s, t)

    The second part, a mean over coordinates, prefers short ways, which makes the map unique.

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        discriminator: The critic D, (x, t, condition) -> logits.
        transport: Factor of the cost of transport.

    Returns:
        Both losses and the margin by name: (B, n) as the logits are, the cost (B, ...).
    """
    D = judge(with_constant_weights(discriminator), teacher.pair.condition, t)
    fake = flow(x, s, t)
    margin = stop(D)(teacher(x, s, t)) - D(fake)
    cost = transport * (fake - x).square() / (s - t).abs().clamp(min=SHORTEST)
    return {"adversarial": F.softplus(margin), "transport": cost, "margin": stop(margin)}
