"""Flow maps that predict a policy, for `fm.methods.pi_flow`."""

from __future__ import annotations

import math
from typing import Any

from ..data import Data
from ..flow_map import FlowMap
from ..networks import MLP, UNet, source_only
from ..outputs import MixturePolicy
from .by_data import FEW, WAVES, levels_for
from .sizes import are_large

FITTED_ROWS = 10_000
"""Number of rows that the mixture is fitted to."""


def policies(
    data: Data,
    width: int | None = None,
    depth: int | None = None,
    *,
    classes: int | None = None,
    components: int = 16,
    **limits: Any,
) -> FlowMap:
    """Make a flow map that predicts a policy: a residual MLP, or a U-Net for large images, that does not see t.

    The policy is a mixture over a row of a table, or over the channels of each pixel (`outputs.MixturePolicy`).

    Args:
        data: The data set, of plain numbers.
        width: Width of the network. None: its default.
        depth: Number of blocks (a U-Net: for each resolution). None: its default.
        classes: Number of classes. None: the network takes no labels.
        components: Number of components of the mixture.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.

    Raises:
        ValueError: The data are tokens, have categories, or lie on a manifold.
    """
    output = policy_for(data, components)
    options: dict[str, Any] = {"classes": classes, "times": source_only, "channels_out": output.channels}
    if data.kind == "images" and are_large(data):
        channels, height, across = data.shape
        levels = levels_for((height, across))
        return FlowMap(UNet((channels, height, across), width or 64, levels, depth or 2, **options), output, **limits)
    waves = WAVES if math.prod(data.shape) <= FEW else 0
    sizes: dict[str, Any] = {"width": width or 128, "depth": depth or 4, "embedding": 32}
    return FlowMap(MLP(data.shape, data_std=data.std, waves=waves, **sizes, **options), output, **limits)


def policy_for(data: Data, components: int = 16) -> MixturePolicy:
    """Fit the output of a flow map that predicts a policy to data.

    Args:
        data: The data set, of plain numbers.
        components: Number of components of the mixture.

    Returns:
        The output; a network for it needs `channels_out=output.channels`.

    Raises:
        ValueError: The data are tokens, have categories, or lie on a manifold.
    """
    if data.kind == "tokens" or data.columns is not None or data.manifold is not None:
        held = "tokens" if data.kind == "tokens" else "categories" if data.columns else "points on a manifold"
        raise ValueError(f"a policy is a mixture of Gaussians of plain numbers, and {data.name} holds {held}")
    return MixturePolicy.fit(data.draw(FITTED_ROWS, seed=0).x0, components)
