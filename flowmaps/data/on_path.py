"""The check that data and the path of a flow map are on one manifold."""

from __future__ import annotations

from dataclasses import replace

from ..manifolds import Euclidean
from ..path import Geodesic, Path
from .core import Data

NEAR = 1e-3
"""Largest distance of a row to the manifold."""
SEEN = 1024
"""Number of rows that are looked at."""


def on_path(path: Path, data: Data, look: bool = True) -> Data:
    """Check that data lie on the manifold of a path.

    Args:
        path: The path of a flow map.
        data: The data set.
        look: Whether rows are read. No: the data are not used by the method.

    Returns:
        The data set, with the manifold of the path if it has none.

    Raises:
        ValueError: The data are points of a manifold and the path is another one's, or rows are off the manifold.
    """
    wanted = path.manifold if isinstance(path, Geodesic) else None
    known = None if isinstance(data.manifold, Euclidean) else data.manifold
    if wanted is None or not path.curved:
        if known is not None:
            raise ValueError(
                f"{data.name} holds points on {known}, and samples of a flow map with the path {path} leave it: make "
                "the flow map with path=fm.path.Geodesic(data.manifold)"
            )
        return data
    if data.manifold is not None and data.manifold != wanted:
        raise ValueError(f"{data.name} holds points on {data.manifold}, and the flow map has the path {path}")
    if data.shape != (wanted.size,):
        raise ValueError(f"points on {wanted} are rows ({wanted.size},), and {data.name} has rows {data.shape}")
    if look:
        off = wanted.off(data.draw(min(SEEN, data.size or SEEN)).x0.double())
        wrong = ~(off <= NEAR)
        if bool(wrong.any()):
            raise ValueError(
                f"the flow map has the path {path}, and {int(wrong.sum())} of {len(off)} rows of {data.name} are off "
                f"its manifold, up to {float(off.max()):.3g}: make points of them by fm.data.sphere, fm.data.torus "
                "or fm.data.on_manifold"
            )
    return replace(data, manifold=wanted, kind="vectors") if data.manifold is None else data
