"""Flow maps that start well on a kind of data (`points`, `small_images`, `images`, and `flow_for`, which chooses), and
whole runs: at the sizes of papers (`RECIPES`, each a `Recipe`, found by name with `find`) and from pretrained pipelines
(`PRETRAINED`, each a `Distillation`; `find_any` finds both).
"""

from importlib import import_module
from typing import Any

from .by_data import SMALL, flow_for, images, points, small_images

__all__ = [
    "Distillation", "PRETRAINED", "RECIPES", "Recipe", "SMALL", "find", "find_any", "flow_for", "images", "points",
    "small_images",
]  # fmt: skip

# These know how to train, which needs more than torch.
_LAZY = {
    "Distillation": "distillation", "PRETRAINED": "pretrained", "RECIPES": "published", "Recipe": "recipe",
    "find": "published", "find_any": "published",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flowmaps.recipes' has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
