"""The sections of a page about points on a manifold: samples, samples beside data, the way from noise to data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..figures.manifolds import Draw, Sight, sight_of
from ..sampling import trajectory
from ..steps import euler
from .page import Picture, drawing
from .sections import ODE_STEPS, Material, Show, sampled

SHOWN = 4000
"""Largest number of points of a figure."""
MOVING = 1000
"""Largest number of points in the figures of the way from noise to data."""
TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Times of the figures of the way from noise to data."""


@dataclass(frozen=True)
class Points:
    """The sections of a page about points on a manifold.

    Attributes:
        samples: A figure of each sampler, and of held-out data.
        beside: All that can be seen of the samples of one jump, above held-out data.
        becoming: Figures of the states of an ODE; empty for a partial map.
    """

    samples: Sequence[Picture]
    beside: Picture
    becoming: Sequence[Picture]


def sections(material: Material) -> Points | None:
    """Draw the sections; None if the data are no points on a manifold, or on one that is not drawn."""
    seen = sight_of(material.data)
    if seen is None:
        return None
    real = material.data.held_out(SHOWN).x0
    show = show_points(seen, real)
    noise, label = material.start(len(real))
    found = list(sampled(material, noise, label))
    cards = [show(x, title, note, "framed chosen" if k == 0 else "framed") for k, (x, title, note) in enumerate(found)]
    cards.append(show(real, "real data", "held out, not trained on", "framed"))
    beside = drawing(
        lambda theme: seen.whole(found[0][0], beside=real, theme=theme),
        f"{seen.name.capitalize()}: samples by {found[0][1]}, above real data",
        kind="strip",
    )
    return Points(cards, beside, _becoming(material, noise, label, show))


def show_points(seen: Sight, real: Tensor) -> Show:
    """Make a function that draws points on a small figure, in the view of real points."""
    draw: Draw = seen.card(real)

    def show(x: Tensor, title: str, note: str, kind: str) -> Picture:
        return drawing(lambda theme: draw(x, theme=theme), f"{seen.name.capitalize()}: {title}", title, note, kind)

    return show


def _becoming(material: Material, noise: Tensor, label: Tensor | None, show: Show) -> list[Picture]:
    """States along the ODE at a few times."""
    if not material.flow.has_ode:
        return []
    flow = material.flow if label is None else material.flow.given(label=label[:MOVING])
    states = trajectory(flow, noise[:MOVING], ODE_STEPS, step=euler)
    return [show(states[round((1 - t) * ODE_STEPS)], f"t = {t:g}", "", "framed") for t in TIMES]
