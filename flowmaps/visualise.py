"""Pictures and reports under one name: `figures`, and the report of a run."""

from __future__ import annotations

from typing import Any

from .figures import (
    Theme,
    dark,
    field,
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
)

__all__ = [
    "Theme", "dark", "field", "grid", "heat_map", "light", "loss_curves", "mosaic", "path_strip", "paths", "points",
    "portrait", "ranking", "report",  # noqa: F822
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The report needs more than the figures do, so it is imported when it is first asked for."""
    if name != "report":
        raise AttributeError(f"module 'flowmaps.visualise' has no attribute {name!r}")
    from .reports import report

    return report
