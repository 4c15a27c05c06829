"""Pictures and reports under one name: the figures, and the report of a run."""

from __future__ import annotations

from typing import Any

from .figures import (
    Theme,
    angles,
    animate,
    dark,
    density,
    disc,
    field,
    globe,
    grid,
    heat_map,
    light,
    loss_curves,
    mosaic,
    path_strip,
    paths,
    points,
    portrait,
    ranking,
    rotations,
    spectrogram,
    world,
)

__all__ = [
    "Theme", "angles", "animate", "dark", "density", "disc", "field", "globe", "grid", "heat_map", "light",
    "loss_curves", "mosaic", "path_strip", "paths", "points", "portrait", "ranking", "report", "rotations",  # noqa: F822
    "spectrogram", "world",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the report on first use: it needs more packages than the figures."""
    if name != "report":
        raise AttributeError(f"module 'flowmaps.visualise' has no attribute {name!r}")
    from .experiments.reporting import report

    return report
