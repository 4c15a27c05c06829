"""Figures, each in a light and a dark theme, and the report of a run."""

from .charts import heat_map, loss_curves
from .pictures import grid, mosaic, path_strip
from .plane import field, paths, points
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
]
