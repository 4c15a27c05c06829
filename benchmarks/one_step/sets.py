"""The data sets of `benchmarks.one_step`, and the measures of each kind of data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flowmaps.data import Data, load

SETS: dict[str, Callable[[], Data]] = {
    "digits": partial(load, "digits"),
    "glyphs-16": partial(load, "glyphs", size=16),
    "glyphs-28": partial(load, "glyphs", size=28),
    "photos-16": partial(load, "photos", size=16),
    "eight-gaussians": partial(load, "eight_gaussians"),
    "series": partial(load, "series"),
}
"""The data sets by name; they are loaded on first use."""

KNOWN: dict[str, Callable[[], Data]] = SETS | {"checkerboard": partial(load, "checkerboard")}
"""These, and the data sets of `benchmarks.alternatives` beside them."""

BUDGETS: dict[str, float] = {
    "digits": 60.0,
    "glyphs-16": 150.0,
    "glyphs-28": 150.0,
    "photos-16": 150.0,
    "eight-gaussians": 60.0,
    "series": 60.0,
    "checkerboard": 60.0,
}
"""Processor time of each training, in seconds: three seeds of all methods take a day on two cores."""

MARKED: dict[str, dict[str, str]] = {
    "images": {"distance": "Fréchet", "rounded_distance": "rounded"},
    "points": {"kl_48": "KL"},
    "vectors": {"distance": "energy", "kernel_distance": "kernel"},
}
"""The measures of a kind of data in which one jump is compared with the reference; the first one chooses the best."""

BESIDE: dict[str, dict[str, str]] = {
    "images": {
        "random_distance": "random features",
        "patch_distance": "patches",
        "neighbour_ratio": "neighbour ratio",
        "copies": "copies",
    },
    "points": {"distance": "energy"},
    "vectors": {},
}
"""Further measures of the tables."""
