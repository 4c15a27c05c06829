"""Steering to a class: the methods, with the settings that are tried for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
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
    networks: Networks, label: Tensor, budget: int, seed: int, scale: float, step: Any, floor: float | None = None
) -> tuple[Tensor, None]:
    """Steps of the velocity that is tilted by the reward of the denoised state: a pass and a backward pass each."""
    value = S.value(fm.rewards.label(networks.classifier, label), L.denoise, floor=floor)
    chosen = S.tilted(getattr(fm.steps, step), value, scale=scale)
    return fm.sample(networks.base, noise(len(label), seed), budget // 2, step=chosen, seed=seed), None


def by_particles(
    run: Callable[..., S.Particles], steps: int, networks: Networks, label: Tensor, seed: int, scale: float = 1.0,
    **setting: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As many particles as samples; those of a class are a group."""
    groups, z = len(label.unique()), noise(len(label), seed)
    reward = fm.rewards.scaled(fm.rewards.label(networks.classifier, label), scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of particles that collapse, which the table shows
        found = run(networks.base, z, max(1, steps), reward=reward, groups=groups, seed=seed, **setting)
    return found.resampled(seed), found.ess.min(0).values


def tds(networks: Networks, label: Tensor, budget: int, seed: int, **setting: Any) -> tuple[Tensor, Tensor]:
    """Particles with the denoised state as look-ahead: a pass and a backward pass each step, and one pass the last."""
    return by_particles(S.tds, (budget + 1) // 2, networks, label, seed, **setting)


def fmtt(
    networks: Networks, label: Tensor, budget: int, seed: int, kernel: str, push: float, scale: float
) -> tuple[Tensor, Tensor]:
    """Particles with the jump of the map as look-ahead, which the kernel `restart` shares."""
    cost = (2 if push else 1) if kernel == "restart" else (3 if push else 2)
    last = cost - 1 if push else cost  # no gradient is left for the last step
    setting: dict[str, Any] = {"kernel": fm.steps.restart} if kernel == "restart" else {"level": 1.0}
    setting |= {"push": push, "scale": scale, "floor": -4.0 * scale}
    return by_particles(S.fmtt, 1 + (budget - last) // cost, networks, label, seed, **setting)


def best_of(networks: Networks, label: Tensor, budget: int, seed: int, weighted: bool) -> tuple[Tensor, None]:
    """The best of as many jumps as calls, or one of them, drawn by the weights e^r."""
    many = noise(budget * len(label), seed).reshape(budget, len(label), 1, 8, 8)
    found = S.best_of(networks.base, fm.rewards.label(networks.classifier, label), many)
    if not weighted:
        return found.x, None
    drawn = torch.multinomial(found.log_weights.T.exp(), 1, generator=torch.Generator().manual_seed(seed))[:, 0]
    return found.samples[drawn, torch.arange(len(label))], None


def fmrg(
    networks: Networks, label: Tensor, budget: int, seed: int, until: float = 1e-6, **setting: Any
) -> tuple[Tensor, None]:
    """Jumps with a gradient step after each but the last: a jump, a look-ahead with its gradient, and |v|."""
    cost = 4 if "relative" in setting else 3
    step = S.fmrg(fm.rewards.label(networks.classifier, label), until=until, **setting)
    return fm.sample(networks.base, noise(len(label), seed), 1 + (budget - 1) // cost, step=step), None


def weighted_diamond(
    networks: Networks, label: Tensor, budget: int, seed: int, n: int, snr: float, by_gradient: bool, step: str
) -> tuple[Tensor, None]:
    """Draws of re-noised jumps: 1 + n passes a step, and n backward passes with a gradient."""
    reward, steps = fm.rewards.label(networks.classifier, label), budget // (1 + n * (1 + by_gradient))
    chosen = S.weighted_diamond(reward, n, snr, by_gradient=by_gradient, step=getattr(fm.steps, step))
    return fm.sample(networks.base, noise(len(label), seed), max(1, steps), step=chosen, seed=seed), None


def meta_flow_map(
    networks: Networks, label: Tensor, budget: int, seed: int, n: int, by_gradient: bool, step: str
) -> tuple[Tensor, None]:
    """Draws of the posterior map: 1 + n passes a step, and n backward passes with a gradient."""
    reward, steps = fm.rewards.label(networks.classifier, label), budget // (1 + n * (1 + by_gradient))
    chosen = S.meta_flow_map(networks.posterior, reward, n, by_gradient=by_gradient, step=getattr(fm.steps, step))
    return fm.sample(networks.base, noise(len(label), seed), max(1, steps), step=chosen, seed=seed), None


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


def grid(**choices: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations of settings."""
    return [dict(zip(choices, one, strict=True)) for one in product(*choices.values())]


FREE = grid(n=(4, 8, 16), by_gradient=(False,), step=("ancestral",))
PULLED = grid(n=(1, 2), by_gradient=(True,), step=("ancestral",))
METHODS: dict[str, Steered] = {
    "unsteered": Steered("not steered, jumps", "none", 1, unsteered, most=1),
    "conditional": Steered("class-conditional map, jumps", "none", 1, by_label, most=2),
    "dps": Steered(
        "DPS: tilt by the denoised state", "denoiser", 2, dps,
        [*grid(scale=(1.0, 1.5, 2.0), step=("euler", "ancestral")), {"scale": 1.0, "step": "ancestral", "floor": -4.0}],
    ),
    "tds": Steered("TDS particles", "denoiser", 2, tds, grid(floor=(None, -4.0), push=(1.0, 2.0))),
    "best_of": Steered("best of N jumps", "map", 1, best_of, [{"weighted": False}]),
    "weights": Steered("one of N jumps, drawn by weight", "map", 1, best_of, [{"weighted": True}]),
    "fmtt": Steered(
        "FMTT particles", "map", 1, fmtt,
        grid(kernel=("restart",), push=(0.0, 1.0), scale=(1.0, 2.0))
        + grid(kernel=("sde",), push=(0.0, 1.0), scale=(1.0, 1.5, 2.0)),
    ),
    "fmrg": Steered(
        "FMRG-J", "map", 1, fmrg,
        [
            *grid(relative=(0.5, 1.0)), {"relative": 2.0, "until": 0.4},
            *grid(strength=(0.3, 1.0)), {"strength": 3.0, "until": 0.4},
        ],
    ),
    "weighted_diamond": Steered(
        "Weighted Diamond", "map", 16, weighted_diamond,
        [one | {"snr": snr} for one in FREE for snr in (4.0, 10.0)] + [one | {"snr": 1.3} for one in PULLED],
    ),
    "meta_flow_map": Steered("meta flow map", "map", 16, meta_flow_map, FREE + PULLED),
    "tilting": Steered("post-trained by `tilting`, jumps", "trained", 1, tilting, most=2),
    "filtered": Steered("post-trained on `filtered` samples, jumps", "trained", 1, filtered, most=2),
    "distilled": Steered("steered velocity, distilled by `ayf_emd`, jumps", "trained", 1, distilled, most=2),
}  # fmt: skip
"""The methods by name."""
