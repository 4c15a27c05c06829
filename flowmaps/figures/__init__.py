"""Figures: numbers in, axes out."""

from .charts import heat_map, loss_curves
from .pictures import grid, mosaic, path_strip
from .plane import field, paths, points
from .portrait import portrait
from .ranking import ranking
from .style import Theme, dark, light

__all__ = [
    "Theme", "dark", "field", "grid", "heat_map", "light", "loss_curves", "mosaic", "path_strip", "paths", "points",
    "portrait", "ranking",
]  # fmt: skip
