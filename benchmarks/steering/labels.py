"""Steering to a class: the methods, with the settings that are tried for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.steering.networks import Networks

S, L = fm.steering, fm.look
BUDGETS = (1, 2, 4, 8, 16, 32, 64, 100)
"""Network calls of a sample; a backward pass is a call."""

Draw = Callable[..., tuple[Tensor, Tensor | None]]
"""(networks, labels, budget, seed, **setting) -> samples, and the effective shares of particles."""


@dataclass(frozen=True)
class Steered:
    """A way to make samples of a class.

    Args:
        title: Its name in tables.
        kind: "denoiser", "map", "trained" or "none": whose look-ahead it has, or that the weights know the class.
        least: Smallest number of calls of a sample.
        draw: Function that makes the samples.
        settings: The settings that are tried.
        most: Largest number of calls of a sample.
    """

    title: str
    kind: str
    least: int
    draw: Draw
    settings: Sequence[dict[str, Any]] = field(default_factory=lambda: [{}])
    most: int = 100


def noise(n: int, seed: int) -> Tensor:
    """Standard noise of n digits."""
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def unsteered(networks: Networks, label: Tensor, budget: int, seed: int) -> tuple[Tensor, None]:
    """Jumps of the map, which does not know the class."""
    return fm.sample(networks.base, noise(len(label), seed), budget), None


def by_label(networks: Networks, label: Tensor, budget: int, seed: int) -> tuple[Tensor, None]:
    """Jumps of the class-conditional map."""
    return fm.sample(networks.conditional, noise(len(label), seed), budget, condition=label), None


def dps(
    networks: Networks, label: Tensor, budget: int, seed: int, scale: float, step: str, floor: float | None = None
) -> tuple[Tensor, None]:
    """The velocity or kernel, tilted by the reward of the denoised state: a pass and a backward pass each step."""
    value = S.value(fm.rewards.label(networks.classifier, label), L.denoise, floor=floor)
    chosen = S.tilted(fm.steps.euler if step == "euler" else fm.steps.ancestral, value, scale=scale)
    return fm.sample(networks.base, noise(len(label), seed), budget // 2, step=chosen, seed=seed), None


def by_particles(
    run: Callable[..., S.Particles], cost: int, networks: Networks, label: Tensor, budget: int, seed: int, **setting: Any
) -> tuple[Tensor, Tensor]:
    """As many particles as samples; those of a class are a group."""
    groups = len(label.unique())
    reward = fm.rewards.label(networks.classifier, label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of particles that collapse, which the table shows
        found = run(
            networks.base, noise(len(label), seed), max(1, budget // cost), reward=reward, groups=groups, seed=seed,
            **setting,
        )  # fmt: skip
    return found.resampled(seed), found.ess.min(0).values


def tds(*arguments: Any, **setting: Any) -> tuple[Tensor, Tensor]:
    """Particles with the denoised state as look-ahead."""
    return by_particles(S.tds, 2, *arguments, **setting)


def fmtt(*arguments: Any, level: float | None, **setting: Any) -> tuple[Tensor, Tensor]:
    """Particles with the map as look-ahead; without a level, restarts, which share the jump of the look-ahead."""
    kernel = {"kernel": fm.steps.restart} if level is None else {"level": level}
    return by_particles(S.fmtt, 2 if level is None else 3, *arguments, **kernel, **setting)


def best_of(networks: Networks, label: Tensor, budget: int, seed: int, weighted: bool) -> tuple[Tensor, None]:
    """The best of as many jumps as calls, or one of them, drawn by the weights e^r."""
    many = noise(budget * len(label), seed).reshape(budget, len(label), 1, 8, 8)
    found = S.best_of(networks.base, fm.rewards.label(networks.classifier, label), many)
    if not weighted:
        return found.x, None
    drawn = torch.multinomial(found.log_weights.T.exp(), 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    return found.samples[drawn, torch.arange(len(label))], None


def fmrg(
    networks: Networks, label: Tensor, budget: int, seed: int, strength: float = 1.0, relative: float | None = None
) -> tuple[Tensor, None]:
    """Jumps with a gradient step after each but the last, three calls; a last jump costs one."""
    step = S.fmrg(fm.rewards.label(networks.classifier, label), strength, relative=relative, until=1e-6)
    cost = 3 if relative is None else 4
    return fm.sample(networks.base, noise(len(label), seed), 1 + (budget - 1) // cost, step=step), None


def weighted_diamond(
    networks: Networks, label: Tensor, budget: int, seed: int, n: int, snr: float, by_gradient: bool = False
) -> tuple[Tensor, None]:
    """Draws of re-noised jumps: 1 + n passes a step, and n backward passes."""
    cost = 1 + n * (2 if by_gradient else 1)
    step = S.weighted_diamond(fm.rewards.label(networks.classifier, label), n, snr, by_gradient=by_gradient)
    flow, steps = networks.base, max(1, budget // cost)
    return fm.sample(flow, noise(len(label), seed), steps, step=step, seed=seed), None


def meta_flow_map(networks: Networks, label: Tensor, budget: int, seed: int, n: int) -> tuple[Tensor, None]:
    """Draws of the posterior map: 1 + n passes a step."""
    step = S.meta_flow_map(networks.posterior, fm.rewards.label(networks.classifier, label), n)
    return fm.sample(networks.base, noise(len(label), seed), max(1, budget // (1 + n)), step=step, seed=seed), None


def post_trained(name: str, networks: Networks, label: Tensor, budget: int, seed: int) -> tuple[Tensor, None]:
    """Jumps of a post-trained map that takes the class."""
    return fm.sample(getattr(networks, name), noise(len(label), seed), budget, condition=label), None


def tilting(networks: Networks, label: Tensor, budget: int, seed: int) -> tuple[Tensor, None]:
    """Jumps of ten post-trained maps, one for each class."""
    z, x = noise(len(label), seed), torch.empty(len(label), 1, 8, 8)
    for k in label.unique().tolist():
        x[label == k] = fm.sample(networks.tilted(k), z[label == k], budget)
    return x, None


def distilled(*arguments: Any) -> tuple[Tensor, None]:
    """Jumps of the distilled steered velocity."""
    return post_trained("distilled", *arguments)


def filtered(*arguments: Any) -> tuple[Tensor, None]:
    """Jumps of the map that was trained on samples with weights."""
    return post_trained("filtered", *arguments)


SCALES = ({"scale": 1.0}, {"scale": 2.0}, {"scale": 4.0})
METHODS: dict[str, Steered] = {
    "unsteered": Steered("not steered, jumps", "none", 1, unsteered, most=4),
    "conditional": Steered("class-conditional map, jumps", "none", 1, by_label, most=4),
    "dps": Steered(
        "DPS: tilt by the denoised state", "denoiser", 2, dps,
        [one | {"step": step} for one in SCALES for step in ("euler", "ancestral")],
    ),
    "tds": Steered("TDS particles", "denoiser", 2, tds, [{"floor": -4.0}, {"floor": -4.0, "push": 2.0}]),
    "best_of": Steered("best of N jumps", "map", 1, best_of, [{"weighted": False}]),
    "weights": Steered("one of N jumps, by weights", "map", 1, best_of, [{"weighted": True}]),
    "fmtt": Steered(
        "FMTT particles", "map", 3, fmtt,
        [{"level": level, "floor": -4.0, "push": push} for level in (1.0, None) for push in (1.0, 2.0)],
    ),
    "fmrg": Steered(
        "FMRG-J", "map", 1, fmrg, [*({"strength": k} for k in (1.0, 2.0, 4.0, 8.0)), {"relative": 0.5}, {"relative": 1.0}]
    ),
    "weighted_diamond": Steered(
        "Weighted Diamond", "map", 3, weighted_diamond,
        [{"n": n, "snr": snr} for n in (2, 4, 8) for snr in (1.5, 4.0)] + [{"n": 1, "snr": 1.5, "by_gradient": True}],
    ),
    "meta_flow_map": Steered("meta flow map", "map", 3, meta_flow_map, [{"n": n} for n in (2, 4, 8)]),
    "tilting": Steered("post-trained, `tilting`", "trained", 1, tilting, most=2),
    "filtered": Steered("post-trained, `filtered`", "trained", 1, filtered, most=2),
    "distilled": Steered("post-trained, steered velocity distilled", "trained", 1, distilled, most=2),
}  # fmt: skip
"""The methods by name."""
