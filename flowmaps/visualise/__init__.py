"""Figures, each in a light and a dark theme, and the report of a run."""

from typing import Any

from .charts import heat_map, loss_curves
from .pictures import grid, mosaic, path_strip
from .plane import field, paths, points
from .portrait import portrait
from .ranking import ranking
from .style import Theme, dark, light

__all__ = [
    "Theme",
    "dark",
    "field",
    "grid",
    "heat_map",
    "light",
    "loss_curves",
    "mosaic",
    "path_strip",
    "paths",
    "points",
    "portrait",
    "ranking",
    "report",
]


def __getattr__(name: str) -> Any:
    """The report needs more than the figures do, so it is imported when it is first asked for."""
    if name != "report":
        raise AttributeError(f"module 'flowmaps.visualise' has no attribute {name!r}")
    from .run_report import report

    return report
