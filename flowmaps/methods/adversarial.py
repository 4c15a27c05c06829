"""Adversarial methods, whose critic and flow take turns, and an adversarial loss as a term of other methods."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from ..adversaries import (
    adversarial,
    deceive,
    deceive_velocity,
    discriminate,
    discriminate_velocities,
    shown_alone,
)
from ..arguments import at_least, expect_time, positive, within
from ..draws import normal
from ..method.balance import gradient_ratio
from ..method.method import Method
from ..method.term import Term, from_noise
from ..method.turns import Turns
from ..times import Times, uniform_diagonal
from ..velocity import Discriminator, MakeOptimizer, VelocitySource, conditional
from ..weight import plain
from .parts import one_jump
from .row import SAMPLES, landscape_row

__all__ = ["afm", "cafm"]

ADVERSARIAL_SHARE = 0.25
"""Share of the batch, in methods that add `adversarial_term`."""
MARGIN = {"margin": shown_alone}
REST = 0.02
"""Share of the cost of transport that is left at the end of training."""


def without_momentum(lr: float = 1e-3) -> MakeOptimizer:
    """Adam with betas (0, 0.9), the usual optimizer of a critic and of a flow that learns from one.

    Args:
        lr: Learning rate; by default the one of `fm.train`. The papers' code has 1e-4 and less.

    Returns:
        Function from weights to the optimizer.
    """
    return partial(torch.optim.Adam, lr=lr, betas=(0.0, 0.9))


@landscape_row(
    rule="adversarial",
    learning=SAMPLES,
    notes="a critic of jumps, one turn each (13 and 6 passes); short ways are preferred, so that the map is unique",
    cost=9.5,
    shared=9.5,
    paper="lin2025adversarial",
    equation="flow: E softplus(D(x_t) - D(G)) + c |G - x_s|^2/(s - t),  G = F(x_s, s, t)\n"
    "critic: E softplus(D(G) - D(x_t)) + R1 + R2 + a (D(x_t) + D(G))^2",
    gradient="F(x_s, s, t); D",
    only_source=1.0,
    only_target=0.0,
)
def afm(
    *,
    discriminator: nn.Module | None = None,
    times: Times = one_jump,
    updates: int = 1,
    transport: float = 0.05,
    penalty: float = 0.01,
    spread: float = 0.01,
    centring: float = 0.01,
    optimizer: MakeOptimizer | None = without_momentum(),
) -> Turns:
    """Adversarial flow models.

        flow:    E softplus(D(x_t) - D(G)) + c(progress) |G - x_s|^2 / (s - t),   G = F(x_s, s, t)
        critic:  E softplus(D(G) - D(x_t)) + penalty (s - t) (r(x_t) + r(G)) + centring (D(x_t) + D(G))^2

    r is the squared slope of D(x, t) along small noise. The loss of the flow vanishes for every map with the right
    distribution; the cost of transport chooses one. It falls by a cosine from `transport` to 2% of it, since it pulls
    samples towards their noise. Sums over coordinates are means here. Lin et al. 2025, arXiv 2511.22475.

    Args:
        discriminator: The critic, called as D(x, t, **condition). None: a copy of the flow's network.
        times: Sampler of the jumps (s, t) that sampling will make; by default the one from noise to data.
        updates: Updates of the critic for each update of the flow.
        transport: Cost of transport at first.
        penalty: Factor of the squared slopes.
        spread: Size of the small noise.
        centring: Factor of the squared sum of logits.
        optimizer: Optimizer of the critic, with a learning rate of its own, which should be near the flow's. None: one
            like the flow's, whose momentum makes such training fail.

    Raises:
        TypeError: The discriminator is no network of (x, t).
        ValueError: A number is out of range.
    """
    at_least(1, updates=updates)
    within(0, math.inf, transport=transport, penalty=penalty, centring=centring)
    positive(spread=spread)
    critic = critic_of(discriminator, optimizer)
    common: dict[str, Any] = {"times": times, "sources": {"discriminator": critic}}

    def fading(term: Term, progress: float) -> Term:
        return term.given(transport=transport * (REST + (1 - REST) * (1 + math.cos(math.pi * progress)) / 2))

    against = partial(discriminate, penalty=penalty, spread=spread, centring=centring)
    generator = losses_term(
        partial(deceive, transport=transport), balance=MARGIN, curriculum=fading, name="adversarial", **common
    )
    return taking_turns(
        "afm", updates, losses_term(against, draws={"noise": normal}, balance=MARGIN, **common), generator
    )


@landscape_row(
    rule="adversarial",
    learning=SAMPLES,
    notes="a critic of velocities, 8 turns of 7 passes for one of 5; learns the velocity alone, sampled by many steps",
    cost=61 / 9,
    shared=61 / 9,
    paper="lin2026continuous",
    equation="flow: E (D'(v) - 1)^2,  D'(w) = dD/dx . w + dD/dt,  v = V(x_t, t, t)\n"
    "critic: E (D'(u) - 1)^2 + (D'(v) + 1)^2 + a D^2,  u = eps - x_0",
    gradient="V(x_t, t, t); D",
    gradient_of=("diagonal",),
    few_step=100,
)
def cafm(
    *,
    discriminator: nn.Module | None = None,
    times: Times = uniform_diagonal(),
    updates: int = 8,
    transport: float = 0.0,
    centring: float = 0.001,
    optimizer: MakeOptimizer | None = without_momentum(),
) -> Turns:
    """Continuous adversarial flow models.

        flow:    E (D'(v) - 1)^2 + transport |v|^2,   D'(w) = dD/dx . w + dD/dt at (x_t, t),   v = V(x_t, t, t)
        critic:  E (D'(u) - 1)^2 + (D'(v) + 1)^2 + centring D^2,   u = eps - x_0

    It learns the velocity of flow matching, E[u | x_t], where the critic is flat; on the way there errors are weighted
    by the inverse covariance of u given x_t. It learns no jumps: follow the velocity by many steps, or distil it. The
    paper trains the critic alone for two epochs first, and starts both networks from a trained velocity. Lin et al.
    2026, arXiv 2604.11521.

    Args:
        discriminator: The critic, called as D(x, t, **condition), with one logit and two derivatives. None: a copy of
            the flow's network.
        times: Sampler of the times; by default uniform.
        updates: Updates of the critic for each update of the flow, 8 to 16 in the paper's code.
        transport: Factor of the squared velocity.
        centring: Factor of the squared logits.
        optimizer: Optimizer of the critic, with a learning rate of its own, which should be near the flow's. None: one
            like the flow's, whose momentum makes such training fail.

    Raises:
        TypeError: The discriminator is no network of (x, t).
        ValueError: A number is out of range.
    """
    at_least(1, updates=updates)
    within(0, math.inf, transport=transport, centring=centring)
    critic = critic_of(discriminator, optimizer)
    common: dict[str, Any] = {"times": times, "sources": {"discriminator": critic}, "balance": MARGIN}
    against = losses_term(partial(discriminate_velocities, centring=centring), **common)
    generator = losses_term(partial(deceive_velocity, transport=transport), name="adversarial", **common)
    return taking_turns("cafm", updates, against, generator)


def adversarial_term(discriminator: Discriminator, share: float, strength: float = 1.0) -> Term:
    """Term of `adversaries.adversarial` on one-jump samples, balanced with the first loss by last-layer gradients.

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
        times=one_jump,
        weight=plain,
        sources={"discriminator": discriminator},
        start=from_noise,
        balance={"adversarial": gradient_ratio(strength, 0.01, 10.0)},
    )


def taking_turns(name: str, updates: int, critic: Term, generator: Term) -> Turns:
    """Updates of the critic, then one of the flow."""
    return Turns((updates, Method(critic, name="critic")), (1, Method(generator, name="flow")), name=name)


def losses_term(rule: Any, velocity: VelocitySource = conditional, name: str = "discriminator", **options: Any) -> Term:
    """A term of losses."""
    return Term(rule, velocity, weight=plain, name=name, **options)


def critic_of(network: nn.Module | None, optimizer: MakeOptimizer | None) -> Discriminator:
    """A discriminator that is called with times."""
    if network is not None:
        expect_time(network)
    return Discriminator(network, optimizer)
