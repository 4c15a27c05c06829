"""Adversarial methods, whose critic and flow take turns, and an adversarial loss as a term of other methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..adversaries import (
    adversarial,
    deceive,
    deceive_and_follow,
    deceive_noised,
    deceive_velocity,
    discriminate,
    discriminate_noised,
    discriminate_velocities,
    hinge,
    logistic,
    shown_alone,
)
from ..arguments import at_least, expect_time, positive, shown, within
from ..draws import Numbers, normal, uniform
from ..flow_map import FlowMap
from ..method.balance import gradient_ratio
from ..method.method import Method
from ..method.term import Term, from_noise
from ..method.turns import Turns
from ..networks.heads import Heads, blocks_of
from ..times import Times, uniform_diagonal
from ..times.grids import on
from ..velocity import Discriminator, MakeOptimizer, VelocitySource, conditional, fixed
from ..weight import plain
from .parts import one_jump
from .row import SAMPLES, TEACHER, landscape_row

__all__ = ["add", "afm", "cafm", "ladd"]

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
    critic = _critic(discriminator, optimizer)
    common: dict[str, Any] = {"times": times, "sources": {"discriminator": critic}}

    def fading(term: Term, progress: float) -> Term:
        return term.given(transport=transport * (REST + (1 - REST) * (1 + math.cos(math.pi * progress)) / 2))

    against = partial(discriminate, penalty=penalty, spread=spread, centring=centring)
    generator = _term(
        partial(deceive, transport=transport), balance=MARGIN, curriculum=fading, name="adversarial", **common
    )
    return _turns("afm", updates, _term(against, draws={"noise": normal}, balance=MARGIN, **common), generator)


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
    critic = _critic(discriminator, optimizer)
    common: dict[str, Any] = {"times": times, "sources": {"discriminator": critic}, "balance": MARGIN}
    against = _term(partial(discriminate_velocities, centring=centring), **common)
    generator = _term(partial(deceive_velocity, transport=transport), name="adversarial", **common)
    return _turns("cafm", updates, against, generator)


@landscape_row(
    rule="adversarial",
    learning=TEACHER,
    notes="a critic of samples, one turn each (10 and 6 passes), beside the teacher's denoiser; t = 0 only",
    cost=8,
    shared=8,
    paper="sauer2023adversarial",
    equation="flow: E -D(y) + c (1 - l) |y - sg f*((1 - l) y + l n)|^2,  y = F(x_s, s, 0)\n"
    "critic: E max(0, 1 - D(x_0)) + max(0, 1 + D(y)) + R1",
    gradient="F(x_s, s, 0); D",
    only_target=0.0,
    few_step=4,
)
def add(
    teacher: Any = None,
    *,
    discriminator: nn.Module | None = None,
    sources: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    updates: int = 1,
    distillation: float = 2.5,
    levels: Numbers = uniform,
    penalty: float = 1e-5,
    spread: float = 0.01,
    optimizer: MakeOptimizer | None = without_momentum(1e-4),
) -> Turns:
    """Adversarial diffusion distillation.

        flow:    E -D(y) + distillation a(l) |y - sg f(a(l) y + b(l) n, l)|^2,   y = F(x_s, s, 0)
        critic:  E max(0, 1 - D(x_0)) + max(0, 1 + D(y)) + penalty r(x_0)

    f is the denoiser of the teacher, a and b are the path, r is the squared slope of D along small noise. The paper's
    critic has heads on the features of a frozen network, `networks.Heads`. Noise and sample are linked weakly, so that
    inversion and interpolation are lost. Sauer et al. 2023, arXiv 2311.17042.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        discriminator: The critic, called as D(x, t, **condition) at t = 0. None: a copy of the flow's network.
        sources: Source times s of the flow, which are the noise levels of its sampler (`steps.restart`).
        updates: Updates of the critic for each update of the flow.
        distillation: Factor of the distance from the teacher.
        levels: Numbers l in [0, 1], the noise that the teacher removes.
        penalty: Factor of the squared slope.
        spread: Size of the small noise.
        optimizer: Optimizer of the critic, with a learning rate of its own, which should be near the flow's. None: one
            like the flow's, whose momentum makes such training fail.

    Raises:
        TypeError: The teacher has no velocity, or the discriminator is no network of (x, t).
        ValueError: A number is out of range.
    """
    at_least(1, updates=updates)
    within(0, math.inf, distillation=distillation, penalty=penalty)
    positive(spread=spread)
    common: dict[str, Any] = {"times": _sources(sources)}
    by_critic = {"discriminator": _critic(discriminator, optimizer)}
    against = partial(discriminate_noised, game=hinge, penalty=penalty, spread=spread)
    follow = partial(deceive_and_follow, game=hinge, strength=distillation)
    clean = {"level": _no_noise, "noise": normal, "nearby": normal}
    return _turns(
        "add",
        updates,
        _term(against, sources=by_critic, draws=clean, balance=MARGIN, **common),
        _term(
            follow,
            fixed(teacher),
            sources=by_critic | {"data": conditional},
            draws={"level": levels, "noise": normal},
            name="adversarial",
            **common,
        ),
    )


@landscape_row(
    rule="adversarial",
    learning=TEACHER,
    notes="heads on the teacher's features of noised samples, one turn each (4 and 5 passes); t = 0 only",
    cost=4.5,
    shared=4.5,
    paper="sauer2024fast",
    equation="flow: E softplus(-D(y_l)),  y = F(x_s, s, 0),  y_l = (1 - l) y + l n\n"
    "critic: E softplus(-D(x_l)) + softplus(D(y_l)) + R1,  D = heads(features of f*)",
    gradient="F(x_s, s, 0); heads",
    only_target=0.0,
    few_step=4,
    features=True,
)
def ladd(
    teacher: Any = None,
    *,
    layers: Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    width: int = 64,
    sources: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    updates: int = 1,
    levels: Numbers = uniform,
    penalty: float = 0.01,
    spread: float = 0.1,
    optimizer: MakeOptimizer | None = without_momentum(1e-4),
) -> Turns:
    """Latent adversarial diffusion distillation.

        flow:    E softplus(-D(y_l)),   y = F(x_s, s, 0),   y_l = a(l) y + b(l) n
        critic:  E softplus(-D(x_l)) + softplus(D(y_l)) + penalty r(x_l),   x_l = a(l) x_0 + b(l) n

    The critic has heads on the features of the teacher at time l (`networks.Heads`); the teacher gives nothing else, so
    the data should be its samples, or the data that it was trained on. Without a distance from the teacher there is no
    link of noise and sample. Sauer et al. 2024, arXiv 2403.12015.

    Args:
        teacher: A FlowMap.
        layers: Names of the layers of the teacher's network whose outputs are the features. None: its blocks.
        shape: Shape of one row. None: the `shape` of the teacher's network.
        width: Width of a head.
        sources: Source times s of the flow, which are the noise levels of its sampler (`steps.restart`).
        updates: Updates of the critic for each update of the flow.
        levels: Numbers l in [0, 1], the noise at which samples are compared.
        penalty: Factor of the squared slope r of D along small noise.
        spread: Size of the small noise.
        optimizer: Optimizer of the heads, with a learning rate of its own, which should be near the flow's. None: one
            like the flow's, whose momentum makes such training fail.

    Raises:
        TypeError: The teacher is no FlowMap.
        ValueError: A number is out of range, the teacher has no such layer, or the shape is not known.
    """
    at_least(1, updates=updates)
    within(0, math.inf, penalty=penalty)
    positive(spread=spread)
    heads = _critic(_heads(teacher, layers, shape, width), optimizer)
    common: dict[str, Any] = {"times": _sources(sources), "sources": {"discriminator": heads}}
    draws = {"level": levels, "noise": normal}
    against = partial(discriminate_noised, game=logistic, penalty=penalty, spread=spread)
    return _turns(
        "ladd",
        updates,
        _term(against, draws=draws | {"nearby": normal}, balance=MARGIN, **common),
        _term(partial(deceive_noised, game=logistic), draws=draws, name="adversarial", **common),
    )


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


def _turns(name: str, updates: int, critic: Term, generator: Term) -> Turns:
    """Updates of the critic, then one of the flow."""
    return Turns((updates, Method(critic, name="critic")), (1, Method(generator, name="flow")), name=name)


def _term(rule: Any, velocity: VelocitySource = conditional, name: str = "discriminator", **options: Any) -> Term:
    """A term of losses."""
    return Term(rule, velocity, weight=plain, name=name, **options)


def _critic(network: nn.Module | None, optimizer: MakeOptimizer | None) -> Discriminator:
    """A discriminator that is called with times."""
    if network is not None:
        expect_time(network)
    return Discriminator(network, optimizer)


def _sources(levels: Sequence[float]) -> Times:
    """Sampler of jumps to data from one of some times."""
    found = sorted(levels)
    if not found or not 0 < found[0] <= found[-1] <= 1:
        raise ValueError(f"the source times of jumps to data lie in (0, 1], got {shown(levels)}")
    return on(torch.tensor([0.0, *found], dtype=torch.float64))


def _no_noise(n: int, like: Tensor) -> Tensor:
    """Zero for each of n rows, (n, 1, ..., 1)."""
    return torch.zeros_like(uniform(n, like))


def _heads(teacher: Any, layers: Sequence[str] | None, shape: Sequence[int] | None, width: int) -> Heads:
    """Heads on the features of a teacher's network."""
    if not isinstance(teacher, FlowMap):
        raise TypeError(f"ladd needs teacher=, a FlowMap, whose network has the features, got {shown(teacher)}")
    shape = shape or getattr(teacher.network, "shape", None)
    if shape is None:
        raise ValueError("ladd needs the shape of one row, which the teacher's network does not tell: give shape=")
    like, time = teacher.like, teacher.like.new_full((1,), 0.5)
    names = blocks_of(teacher.network) if layers is None else layers
    return Heads(teacher.network, names, (like.new_zeros(1, *shape), time, time), width)
