"""Adversarial distillation: a critic of samples beside a teacher's denoiser, or on a teacher's features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..adversaries import deceive_and_follow, deceive_noised, discriminate_noised, hinge, logistic
from ..arguments import at_least, positive, shown, within
from ..draws import Numbers, normal, uniform
from ..flow_map import FlowMap
from ..method.turns import Turns
from ..networks.heads import Heads, blocks_of
from ..times import Times
from ..times.grids import on
from ..velocity import MakeOptimizer, conditional, fixed
from .adversarial import MARGIN, critic_of, losses_term, taking_turns, without_momentum
from .row import TEACHER, landscape_row

__all__ = ["add", "ladd"]


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
    by_critic = {"discriminator": critic_of(discriminator, optimizer)}
    against = partial(discriminate_noised, game=hinge, penalty=penalty, spread=spread)
    follow = partial(deceive_and_follow, game=hinge, strength=distillation)
    clean = {"level": _no_noise, "noise": normal, "nearby": normal}
    return taking_turns(
        "add",
        updates,
        losses_term(against, sources=by_critic, draws=clean, balance=MARGIN, **common),
        losses_term(
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
        shape: Shape of one row. None: the `shape` of the teacher's network, or of the rows that it was trained on.
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
    heads = critic_of(_heads(teacher, layers, shape, width), optimizer)
    common: dict[str, Any] = {"times": _sources(sources), "sources": {"discriminator": heads}}
    draws = {"level": levels, "noise": normal}
    against = partial(discriminate_noised, game=logistic, penalty=penalty, spread=spread)
    return taking_turns(
        "ladd",
        updates,
        losses_term(against, draws=draws | {"nearby": normal}, balance=MARGIN, **common),
        losses_term(partial(deceive_noised, game=logistic), draws=draws, name="adversarial", **common),
    )


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
    trained = getattr(teacher, "trained", None)
    shape = shape or getattr(teacher.network, "shape", None) or (trained and trained.shape)
    if shape is None:
        raise ValueError("ladd needs the shape of one row, which the teacher's network does not tell: give shape=")
    like, time = teacher.like, teacher.like.new_full((1,), 0.5)
    names = blocks_of(teacher.network) if layers is None else layers
    return Heads(teacher.network, names, (like.new_zeros(1, *shape), time, time), width)
