"""Runs as data of a page: networks that the page evaluates, or states that are computed ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...data import Data
from ...data.columns import are_series
from ...figures import words
from ...figures.manifolds import sight_of
from ...figures.pictures import enlarged, mosaic, png
from ...figures.style import dark, light
from ...flow_map import FlowMap
from ...sampling import sample, trajectory
from ...steps import Step, ancestral, euler, jump, restart
from ..page import image
from ..sections import start
from ..texts import lines
from .networks import NotInPages, record
from .page import explore_page

JUMPS = (1, 2, 4, 8)
ODE_STEPS = 100
TIMES = tuple(k / 10 for k in range(10, -1, -1))
POINTS = 800
"""Number of real points of a page."""
SHOWN = {"images": 25, "points": 500, "vectors": 8, "tokens": 16}
"""Number of states of a page, by the kind of the data."""
CALLS = ((1.0, 0.0), (0.7, 0.3), (0.5, 0.5))
"""Source and target times of the jumps and the velocity that a page shows."""


@dataclass(frozen=True)
class Explored:
    """A run as a page shows it.

    Attributes:
        name: Its name.
        flow: The flow map, in float32 on the CPU.
        data: Its data.
        labels: Whether the network is conditioned on class labels.
        step: Number of training steps of the weights.
    """

    name: str
    flow: FlowMap
    data: Data
    labels: bool
    step: int


def runs_page(runs: Sequence[Explored]) -> str:
    """Draw the page of one run, or of several beside each other.

    Args:
        runs: The runs.

    Returns:
        The HTML text.

    Raises:
        ValueError: The states of the data of a run are not drawn.
    """
    for run in runs:
        kind_of(run.data)  # refused before anything is computed
    why = ""
    try:
        found = [evaluated(run) for run in runs]
    except NotInPages as error:
        why, found = f"These states were computed ahead, because {error}.", [computed(run) for run in runs]
    units = "Numbers are in standard deviations of the data." if any(run.flow.units for run in runs) else ""
    about = [f"{run.name}: {words.count(run.step, 'training step')} on {run.data.name}." for run in runs]
    about += [f"{run.name}: {sentence}." for run in runs for sentence in untrained(run.flow)]
    names = " beside ".join(run.name for run in runs)
    values = {"names": names, "about": about, "in_page": not why, "why": why, "units": units}
    return explore_page("explore/runs.html.j2", {"runs": found}, **values)


def evaluated(run: Explored) -> dict[str, Any]:
    """A run whose network the page evaluates.

    Args:
        run: The run.

    Returns:
        Values of JSON.

    Raises:
        NotInPages: The page cannot evaluate it.
    """
    if kind_of(run.data) != "points":
        raise NotInPages("a page evaluates networks for points in the plane alone")
    if jumping(run.flow) is ancestral:
        raise NotInPages("a page has no ancestral steps, and this map was trained for them")
    return {
        "name": run.name,
        "flow": record(run.flow),
        "real": numbers(run.data.held_out(POINTS).x0),
        "classes": _class_names(run.data) if run.labels else None,
    }


@torch.no_grad()
def computed(run: Explored) -> dict[str, Any]:
    """A run with the states of its samplers.

    Args:
        run: The run.

    Returns:
        Values of JSON.
    """
    flow, data, kind = run.flow.standardised(), run.data, kind_of(run.data)
    real = data.held_out(SHOWN["points" if kind == "pictures" and data.kind != "images" else data.kind]).x0
    noise, label = start(run.flow, data, len(real), run.labels)
    show = _show(data, kind, real)
    samples = []
    for steps in (1,) if flow.only_source is not None else JUMPS:
        step = jump if steps == 1 and flow.is_partial else jumping(flow)
        x = sample(flow, noise, steps, step=step, condition=label, seed=0)
        samples.append({"name": words.name({"sampler": step.__name__, "steps": steps}), "state": show(x)})
    found = {"name": run.name, "kind": kind, "crisp": data.kind == "images", "real": show(real), "way": None}
    if flow.has_ode:
        states = trajectory(flow, noise, ODE_STEPS, step=euler, condition=label)
        samples.append({"name": words.name({"sampler": "euler", "steps": ODE_STEPS}), "state": show(states[-1])})
        bound = flow if label is None else flow.given(label=label)
        at = [states[round((1 - t) * ODE_STEPS)] for t in TIMES]
        ends = [bound(x, t, 0.0) for x, t in zip(at, TIMES, strict=True)]
        found["way"] = {"times": list(TIMES), "states": [show(x) for x in at], "jumps": [show(x) for x in ends]}
    return {**found, "range": _range(real), "samples": samples}


def jumping(flow: FlowMap) -> Step:
    """The step of samplers with few steps: jumps, restarts of maps to the data alone, or ancestral steps."""
    if flow.only_target is not None:
        return restart
    return jump if flow.has_ode or flow.is_partial else ancestral


def untrained(flow: FlowMap) -> list[str]:
    """What a page shows of a flow map without training for it, as sentences."""
    if flow.trained is None:
        return []
    found = [flow.trained.warning_of_times(s, t) for s, t in CALLS if flow.knows(s, t)]
    return list(dict.fromkeys(filter(None, found)))


def kind_of(data: Data) -> str:
    """How states of a data set are shown.

    Args:
        data: The data set.

    Returns:
        "points", "pictures", "series" or "texts".

    Raises:
        ValueError: They are not.
    """
    if data.signal is not None:
        raise ValueError("a page shows no states of sound: `flowmaps report` has players and spectrograms")
    if data.kind == "tokens":
        return "texts"
    if data.kind == "images" or sight_of(data) is not None:
        return "pictures"
    if data.kind == "points" and tuple(data.shape) == (2,):
        return "points"
    named = any((data.columns, data.coordinates, (data.recipe or {}).get("columns")))
    if data.manifold is None and are_series(data.shape, named):
        return "series"
    raise ValueError(
        f"a page shows points in the plane, images, series, texts, and points on a globe or a torus, and the rows of "
        f"{data.name} have shape {tuple(data.shape)}"
    )


def _show(data: Data, kind: str, real: Tensor) -> Any:
    """Function from states to values of JSON."""
    if kind == "texts":
        return lambda x: lines(data, x)
    if kind == "points":
        return numbers
    if kind == "series":
        return lambda x: [numbers(row) for row in x.reshape(-1, x.shape[-1])]
    if data.kind == "images":
        return lambda x: {"source": image(png(mosaic(enlarged(data.to_pixels(x)), gap=2)), "").source, "dark": ""}
    seen = sight_of(data)
    assert seen is not None
    draw = seen.card(real)
    return lambda x: _card(draw, x)


def _card(draw: Any, x: Tensor) -> Mapping[str, str]:
    """A figure of points on a manifold, in both themes."""
    from io import BytesIO

    found = {}
    for name, theme in (("source", light), ("dark", dark)):
        buffer = BytesIO()
        draw(x, theme=theme).savefig(buffer, format="png", dpi=110)
        found[name] = image(buffer.getvalue(), "").source
    return found


def _class_names(data: Data) -> list[str]:
    return [str(name) for name in data.class_names or range(data.classes or 0)]


def numbers(x: Tensor) -> list[float]:
    """The values of a tensor, rounded to four digits after the point."""
    return [round(value, 4) for value in x.detach().double().flatten().tolist()]


def _range(real: Tensor) -> list[float]:
    """Lowest and highest value to show: the real data with a margin."""
    if not real.is_floating_point():
        return [0.0, 1.0]
    size = 1.2 * float(real.abs().max())
    return [-size, size]
