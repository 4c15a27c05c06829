"""Adversarial losses on one-jump samples, as a stage or a term of other methods."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..derivative import stop
from ..method.balance import gradient_ratio
from ..method.term import Term, from_noise
from ..velocity import Discriminator, conditional
from ..weight import plain

ADVERSARIAL_SHARE = 0.25
"""Share of the batch, in methods that add this term."""


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
    fixed = with_constant_weights(discriminator, condition)
    (on_real, real_slope), (on_fake, fake_slope) = (
        logits_and_slope(discriminator, condition, stop(z)) for z in (data, samples)
    )
    return {
        "adversarial": F.softplus(stop(fixed)(data) - fixed(samples)),
        "discriminator": F.softplus(on_fake - on_real) + penalty / 2 * (real_slope + fake_slope),
    }


def adversarial_term(discriminator: Discriminator, share: float, strength: float = 1.0) -> Term:
    """Term of `adversarial` on one-jump samples, balanced with the first loss by last-layer gradients.

    Args:
        discriminator: The network D with its optimizer.
        share: Share of the batch.
        strength: Ratio of its gradient to the gradient of the first loss.

    Returns:
        The term.
    """
    return Term(
        adversarial,
        conditional,
        share=share,
        times=_one_jump,
        weight=plain,
        sources={"discriminator": discriminator},
        start=from_noise,
        balance={"adversarial": gradient_ratio(strength, 0.01, 10.0)},
    )


def with_constant_weights(network: Any, condition: dict[str, Any]) -> Any:
    """Bind a network to its condition, with constant weights; gradients pass through its input."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    return lambda x: _rows(torch.func.functional_call(network, weights, (x,), condition))


def logits_and_slope(discriminator: Any, condition: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate the discriminator and its squared gradient, with gradients to the weights.

    Args:
        discriminator: The network D, (x, condition) -> logits.
        condition: Its keyword arguments.
        x: Points, (B, ...).

    Returns:
        D(x) of shape (B, logits), and |grad D(x)|^2 of shape (B, 1).
    """
    logits, pull = torch.func.vjp(lambda z: _rows(discriminator(z, **condition)), x)  # type: ignore[misc]
    (slope,) = pull(torch.ones_like(logits))
    return logits, slope.flatten(1).square().sum(1, keepdim=True)


def _rows(logits: Tensor) -> Tensor:
    """Reshape logits of any shape to one row for each sample."""
    return logits.reshape(len(logits), -1)


def _one_jump(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sample s = 1 and t = 0 in every row."""
    t = torch.zeros(n, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))
    return torch.ones_like(t), t
