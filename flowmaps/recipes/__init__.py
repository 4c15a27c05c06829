"""Recipes: flow maps with good defaults for a kind of data, and whole training runs.

- `points`, `mixed`, `small_images`, `images`, `texts` and `on_manifold` make a flow map; `flow_for` chooses among them.
- `autoregressive` makes a head on a backbone, for sequences of frames.
- `policies` makes one that predicts a policy.
- `output_for` chooses the prediction of a network.
- `method_for` chooses a method and its settings.
- `sizes_for` chooses the sizes of a U-Net and the rows of a batch.
- `RECIPES` are runs at the sizes of papers, each a `Recipe`; `find` returns one by name.
- `PRETRAINED` are distillations of pretrained pipelines, each a `Distillation`; `find_any` returns one of either kind.
"""

from importlib import import_module
from typing import Any

from .by_data import flow_for, images, method_for, method_name, mixed, output_for, points, small_images, texts
from .manifolds import on_manifold
from .policy_maps import policies, policy_for
from .sequences import autoregressive
from .sizes import SMALL, Sizes, sizes_for

__all__ = [
    "Distillation", "PRETRAINED", "RECIPES", "Recipe", "SMALL", "Sizes", "find", "find_any", "flow_for", "images",
    "method_for", "method_name", "mixed", "on_manifold", "output_for", "points", "policies", "policy_for",
    "autoregressive", "sizes_for", "small_images", "texts",
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
