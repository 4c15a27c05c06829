"""Figures: numbers in, axes out."""

from .animation import animate
from .charts import heat_map, loss_curves
from .earth import density, globe, world
from .hyperbolic import disc
from .pictures import grid, mosaic, path_strip
from .plane import field, paths, points
from .portrait import portrait
from .quaternions import rotations
from .ranking import ranking
from .sound import spectrogram
from .style import Theme, dark, light
from .torus import angles

__all__ = [
    "Theme", "angles", "animate", "dark", "density", "disc", "field", "globe", "grid", "heat_map", "light",
    "loss_curves", "mosaic", "path_strip", "paths", "points", "portrait", "ranking", "rotations", "spectrogram",
    "world",
]  # fmt: skip
