"""Flow maps that start well on a kind of data (`points`, `small_images`, `images`, and `flow_for`, which chooses), and
whole runs at the sizes of the papers (`RECIPES`, each a `Recipe`, found by name with `find`).
"""

from importlib import import_module
from typing import Any

from .by_data import SMALL, flow_for, images, points, small_images

__all__ = ["RECIPES", "Recipe", "SMALL", "find", "flow_for", "images", "points", "small_images"]

# These know how to train, which needs more than torch.
_LAZY = {"RECIPES": "published", "find": "published", "Recipe": "recipe"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flowmaps.recipes' has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
