"""The data of `benchmarks.likelihood`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

import flowmaps as fm
from flowmaps.data.transforms import dequantised

ROWS = 1000
"""Number of held-out rows whose log-densities are compared."""


def three() -> fm.exact.GaussianMixture:
    """Three Gaussians of different weight and width."""
    return fm.exact.GaussianMixture([0.5, 0.3, 0.2], [[-1.5, 0.5], [1.2, 1.0], [0.3, -1.4]], [0.4, 0.3, 0.5])


def ring() -> fm.exact.GaussianMixture:
    """Eight Gaussians of standard deviation 0.3 on a ring of radius 2."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    return fm.exact.GaussianMixture(torch.full((8,), 1 / 8), 2 * torch.stack([angles.cos(), angles.sin()], 1), 0.3)


@dataclass(frozen=True)
class Set:
    """A set with a held-out part.

    Attributes:
        data: The data set of training.
        law: The exact law; None for real data.
        rows: Held-out rows, dequantised if they have levels.
        flow: Makes a flow map for it, with the arguments of `fm.FlowMap`.
    """

    data: fm.data.Data
    law: fm.exact.GaussianMixture | None
    rows: Tensor
    flow: Callable[[], fm.FlowMap]


def of_law(law: fm.exact.GaussianMixture) -> Set:
    """A law in the plane."""
    data = fm.data.as_data(law)
    return Set(data, law, law.sample(ROWS, torch.Generator().manual_seed(7)).float(), lambda: fm.recipes.points(data))


def digits() -> Set:
    """The handwritten digits, dequantised, with the network of `flowmaps train` and no bounds."""
    data = fm.data.load("digits")
    torch.manual_seed(7)
    rows = fm.likelihood.dequantised(data.held_out(ROWS, 0).x0, data.levels or 0)

    def flow() -> fm.FlowMap:
        made = fm.recipes.small_images(data)
        return fm.FlowMap(made.network, made.output.output)  # without the bounds, which would cut the noise off

    return Set(dequantised(data), None, rows, flow)


SETS: dict[str, Callable[[], Set]] = {
    "three": cache(lambda: of_law(three())),
    "ring": cache(lambda: of_law(ring())),
    "digits": cache(digits),
}
TITLES = {"three": "three Gaussians", "ring": "eight Gaussians on a ring", "digits": "digits"}
SECONDS = {"three": 300.0, "ring": 300.0, "digits": 240.0}
"""Processor time of each training."""
