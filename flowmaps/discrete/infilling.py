"""Infilling: particles draw the free tokens of a row from the law p(x0) given the other tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..arguments import expect_floating, expect_tensor, positive
from ..steering import Particles, particles, value
from ..steering.reward import Reward

FLOOR = 1e-6
"""Least probability of a token that is given."""


class Held(Reward):
    """Tokens that are given, as a reward: r(x0) = sum over given positions of log <x0_i, e_i>.

    e^r is the probability of the given tokens under independent positions with probabilities x0. It is 1 for one-hot
    rows with these tokens, and for others `floor` to the power of the wrong positions. At the denoised state it is the
    probability of the given tokens given x_t, exactly for one position, and for several as if they were independent
    given x_t; particles weigh that error away.

    Args:
        tokens: One-hot row (L, K); free positions may hold anything.
        known: Given positions, boolean (L,).
        floor: Least probability of a token, which keeps the logarithm finite.

    Raises:
        ValueError: Shapes differ, no position is given, or a given one is not one-hot.
    """

    def __init__(self, tokens: Tensor, known: Tensor, *, floor: float = FLOOR) -> None:
        expect_floating("tokens", tokens, "(L, K)", least=2)
        expect_tensor("known", known)
        positive(floor=floor)
        if tokens.ndim != 2 or known.dtype != torch.bool or known.shape != tokens.shape[:1]:
            raise ValueError(
                f"held tokens are a row (L, K) and a boolean mask (L,), got {tuple(tokens.shape)} and {known.dtype} of "
                f"shape {tuple(known.shape)}"
            )
        rows = tokens[known]
        if not len(rows) or not bool(((rows == 1).sum(1) == 1).all() and (rows.sum(1) == 1).all()):
            raise ValueError("at least one token must be given, each as a one-hot row")
        self.tokens, self.known, self.floor = tokens, known, floor

    @property
    def __name__(self) -> str:  # noqa: A003
        """Number of given tokens, for records."""
        return f"{int(self.known.sum())} of {len(self.known)} tokens given"

    def __call__(self, x0: Tensor) -> Tensor:
        """Log-probability of the given tokens under rows (B, L, K) of probabilities, (B,)."""
        known = self.known.to(x0.device)
        given = (x0 * self.tokens.to(x0)).sum(-1)[:, known]
        return given.clamp(min=self.floor).log().sum(1)

    def completed(self, x0: Tensor) -> Tensor:
        """Rows (B, L, K) with the given tokens in their places."""
        return torch.where(self.known.to(x0.device)[:, None], self.tokens.to(x0), x0)


def infill(flow: Any, noise: Tensor, held: Held, steps: int = 50, **options: Any) -> Particles:
    """Draw rows of tokens given some of them, as weighted particles.

    The particles follow the denoiser, pushed towards the given tokens by the gradient of their log-probability given
    x_t, and are weighted and resampled so that the law is right in the limit of many particles and steps (twisted
    diffusion sampling, Wu et al. 2023, arXiv 2306.17775). With one given token the push alone is exact. With many, or
    with tokens that the map finds unlikely, few particles remain: `Particles.ess` shows it, and a warning says so. The
    steps use the denoiser, so a map needs tens of steps here, not one jump.

    Args:
        flow: A flow map of rows of tokens (L, K) with a velocity, or an exact law.
        noise: Noise, (N, L, K), a row for each particle.
        held: The given tokens.
        steps: Number of steps.
        **options: Further arguments of `fm.steering.particles`.

    Returns:
        The particles, in which given tokens stand in their places. `resampled` gives rows of equal weight.

    Raises:
        ValueError: The noise has another shape, or an argument of `particles` is wrong.
    """
    if tuple(noise.shape[1:]) != tuple(held.tokens.shape):
        raise ValueError(f"these tokens are a row {tuple(held.tokens.shape)}, and the noise is {tuple(noise.shape)}")
    found = particles(flow, noise, steps, reward=held, value=value(held), **options)
    return replace(found, x=held.completed(found.x))
