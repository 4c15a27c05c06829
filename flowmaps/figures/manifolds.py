"""How points of a manifold are drawn: a function for each kind of manifold, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data import Data
from ..manifolds import SO3, Euclidean, Hyperbolic, Manifold, Product, Sphere, Torus
from .earth import globe, overview
from .hyperbolic import disc
from .plane import frame, points
from .quaternions import rotations
from .sphere import best_views, expect_sphere
from .torus import angles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[..., "Figure"]
"""Function that draws points, (x, path=None, *, theme=light) -> figure."""


@dataclass(frozen=True)
class Sight:
    """The figures of points of a manifold.

    Attributes:
        name: The figures in words, for alternative texts.
        whole: Function that draws all that there is to see, (x, path=None, *, beside=None, theme=light) -> figure, with
            other points `beside` in a second row.
        card: Function of real points (M, size) that returns a function for a small figure, (x, path=None, *,
            theme=light) -> figure. Its view is fixed by the real points, so that figures can be compared.
    """

    name: str
    whole: Draw
    card: Callable[[Tensor], Draw]


def sight(manifold: Manifold, names: Sequence[str] | None = None) -> Sight | None:
    """Choose the figures of points of a manifold.

    Args:
        manifold: The manifold.
        names: Names of the columns of a table of the points: the angles of a torus, or latitude and longitude, with
            which the sphere is the earth. None: there is no such table.

    Returns:
        The figures; None if points of this manifold are not drawn.
    """
    made = (make(manifold, names) for kind, make in KINDS.items() if isinstance(manifold, kind))
    return next(made, None)


def sight_of(data: Data) -> Sight | None:
    """Choose the figures of the points of a data set; None if it has no manifold, or one that is not drawn."""
    if data.manifold is None:
        return None
    return sight(data.manifold, None if data.coordinates is None else data.coordinates.names)


def _sphere(manifold: Sphere, names: Sequence[str] | None) -> Sight | None:
    """A globe and a map of the sphere; a histogram of the angle on a circle; no figure of other spheres."""
    if manifold.n == 1:
        return _seen(lambda x: torch.atan2(x[:, 1:], x[:, :1]), _torus(Torus(1), names))
    if manifold.n != 2:
        return None
    land = names is not None

    def card(real: Tensor) -> Draw:
        [view] = best_views(expect_sphere("real", real), 1)
        return partial(globe, views=[(view.latitude, view.longitude)], land=land, width=2.2)

    return Sight("points on a globe", partial(overview, land=land), card)


def _torus(manifold: Torus, names: Sequence[str] | None) -> Sight:
    """Pairs of angles; the first pair on cards."""
    first = [(0, 1 % manifold.n)]
    return Sight(
        "angles", partial(angles, names=names), lambda real: partial(angles, names=names, pairs=first, width=2.2)
    )


def _plane(manifold: Euclidean, names: Sequence[str] | None) -> Sight | None:
    """Dots in the plane."""
    if manifold.n != 2:
        return None

    def card(real: Tensor) -> Draw:
        extent, centre = frame(real)
        return partial(points, extent=extent, centre=centre)

    return Sight("points of the plane", points, card)


def _rotations(manifold: SO3, names: Sequence[str] | None) -> Sight:
    """Turned axes on globes; one of them on cards."""
    return Sight("turned axes on globes", rotations, lambda real: partial(rotations, axes="x"))


def _disc(manifold: Hyperbolic, names: Sequence[str] | None) -> Sight | None:
    """The Poincare disc of the plane; no figure of other spaces."""
    return Sight("points on the Poincare disc", disc, lambda real: disc) if manifold.n == 2 else None


def _product(manifold: Product, names: Sequence[str] | None) -> Sight | None:
    """The first factor that is drawn."""
    start = 0
    for part in manifold.parts:
        here = slice(start, start + part.size)
        inner = sight(part)
        if inner is not None:
            return _seen(lambda x: x[:, here], inner)  # noqa: B023, the loop ends here
        start += part.size
    return None


def _seen(change: Callable[[Tensor], Tensor], inner: Sight) -> Sight:
    """The figures of changed points."""

    def draw(made: Draw) -> Draw:
        def drawn(x: Tensor, *given: object, beside: Tensor | None = None, **options: object) -> Figure:
            others = {} if beside is None else {"beside": change(beside)}
            return made(change(x), *given, **others, **options)

        return drawn

    return Sight(inner.name, draw(inner.whole), lambda real: draw(inner.card(change(real))))


KINDS: Mapping[type[Manifold], Callable[..., Sight | None]] = {
    Sphere: _sphere,
    Torus: _torus,
    SO3: _rotations,
    Hyperbolic: _disc,
    Euclidean: _plane,
    Product: _product,
}
"""The figures of each kind of manifold, as a function of the manifold and of the names of columns."""
