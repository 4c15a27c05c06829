"""Evaluate a flow map: a table with the quality and the cost of each sampler."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..arguments import at_least, check_seed, given, shown
from ..arguments.memory import check_room
from ..data import Data, as_data
from ..data.labels import uses_labels
from ..data.on_path import on_path
from ..data.standardise import with_units
from ..flow_map import FlowMap, expect_flow
from ..steps import Step, named
from .by_kind import DENSITY_SAMPLES, measures
from .class_measures import recognition
from .distances import Estimate
from .features import Features, classifier_features, is_classified, train_classifier
from .measures import Draws, Measure, draw, is_measurable
from .neighbours import NEIGHBOURS
from .samplers import Sampler, Setup, samplers
from .size import Progress, Say, Size, say_fewer, size_of
from .truth import map_error


def evaluate(
    flow: FlowMap,
    data: Any,
    *,
    jumps: Sequence[int] | None = None,
    ode_steps: Sequence[int] | None = None,
    ode_step: str | Step = "euler",
    n: int | None = None,
    draws: int | None = None,
    seed: int = 0,
    features: Features | None = None,
    batch_size: int | None = None,
    labels: bool | None = None,
    quick: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Measure the distances of samples to held-out data, and their cost, for several samplers of one flow map.

    All samplers start from the same noise and, if the network takes labels, the same labels, drawn from the data. A
    partial map gets the samplers that are valid for it. Samplers with many steps draw fewer points, which gives a
    larger standard error.

    Args:
        flow: The flow map.
        data: A data set, or anything that `as_data` takes. If the flow map or the data have units, distances are
            between standardised rows, in which each feature counts alike.
        jumps: Numbers of jumps. None: 1, 2, 4 and 8.
        ode_steps: Numbers of steps of the ODE. None: 16 and 100.
        ode_step: Step of the ODE, or its name: "euler", or "heun" with two calls of the network.
        n: Rows on either side of a distance; fewer if fewer are held out. None: 2048, or fewer for a large network.
        draws: The number of disjoint draws of n samples over which a distance is averaged. None: 8, or fewer for a
            large network.
        seed: Fixes noise, labels and rows.
        features: The features to compare images by, and vectors with labels. None: of a classifier trained on the
            labels.
        batch_size: Samples at a time, to which the times refer. None: 2048 for small samples, 256 for others.
        labels: Whether the network is conditioned on labels. None: as in training.
        quick: Take 1 and 4 jumps, 16 Euler steps and 4 draws of 512 rows, where these are None.
        say: Function that shows a message: the expected time, and every ten seconds the progress. None: no messages.

    Returns:
        A dict that JSON can hold: "metric", "floor", "floor_stderr", "noise" and "noise_stderr" (the distance of
        Gaussian noise with the mean and standard deviation of the data, or of a manifold's prior, which "noise_name"
        names), and "rows" with "sampler", "steps", "distance", "stderr", "seconds_per_sample", "network_calls",
        "samples". Head and rows also hold the other measures of the kind of data, each under its key; "measures" has
        their meanings. "classifier" is the `recognition` of the classifier whose features are compared. A sampler whose
        samples are not finite has no measures, and a warning names it.

    Raises:
        ValueError: `labels` is True and the data have none, too few rows are held out, a number is below 1, or the rows
            do not fit into the memory.
    """
    expect_flow(flow)
    at_least(1, **given(batch_size=batch_size))
    check_seed(seed)
    step = named(ode_step)
    data = data if isinstance(data, Data) else as_data(data, standardise=False)
    data = with_units(data, flow.units) if data.units is None else data
    data = on_path(flow.path, data)
    labels = uses_labels(flow.network, data, labels)
    size = size_of(flow, data, labels, quick, jumps=jumps, ode_steps=ode_steps, n=n, draws=draws)
    say_fewer(say, size)
    n, draws = size.n, size.draws
    more = {"images": NEIGHBOURS, "tokens": 0}.get(data.kind, DENSITY_SAMPLES if data.signal is None else 0)
    kept = 4 * n * draws + more
    memory = kept * math.prod(data.shape) * flow.like.element_size()
    check_room(memory, "this evaluation keeps rows of", "evaluate fewer, such as n=256", _warn)
    rows = draw(data, n, draws, seed)
    if features is not None and not isinstance(features, Features):
        raise TypeError(f"features are given as Features(name, function), got {shown(features)}")
    if features is None and (data.kind == "images" or is_classified(data)):
        features = classifier_features(train_classifier(data, seed=seed))
    found = list(measures(data, rows, features, seed))
    counts = [max(measure.least for measure in found), max(measure.wanted for measure in found)]
    setup = Setup.make(flow, data, *counts, seed=seed, batch_size=batch_size, labels=labels)
    chosen = samplers(flow, size.jumps, size.ode_steps, step)
    with _evaluating(flow), _saying(say, setup, chosen, size):
        table = [_row(setup, sampler, found) for sampler in chosen]
        truth = {} if data.exact is None else {k: _finite(v) for k, v in map_error(flow, data.exact, seed=seed).items()}
    known = _noise(data, rows, found[0], seed) | _recognised(data, features, seed)
    return _result(table, truth, found) | known | _about(data, rows, setup) | {"seed": seed, "measures": _titles(found)}


def _recognised(data: Data, features: Features | None, seed: int) -> dict[str, Any]:
    """The accuracy of the classifier behind the features on held-out rows; empty if there is none."""
    classifier = features and features.classifier
    return {"classifier": recognition(classifier, data, seed=seed)} if classifier and is_classified(data) else {}


def _noise(data: Data, rows: Draws, measure: Measure, seed: int) -> dict[str, Any]:
    """The main measure of Gaussian noise with the mean and the standard deviation of the data: nothing is learned.

    On a manifold it is the measure of the prior.

    Mean and standard deviation are taken of each coordinate; of images, of each channel.
    """
    if data.manifold is not None:
        normal = torch.randn(measure.wanted, *data.shape, generator=torch.Generator().manual_seed(seed))
        noise = measure.estimate(data.manifold.noise(normal))
        known: dict[str, Any] = dict(zip(("noise", "noise_stderr"), map(_finite, noise), strict=True))
        return known | {"noise_name": f"the prior of {data.manifold}"}
    real = torch.cat(rows.held_out)
    over = [axis for axis in range(real.ndim) if axis != 1] if data.kind == "images" else [0]
    mean, std = real.mean(over, keepdim=True), real.std(over, keepdim=True, correction=0)
    normal = torch.randn(measure.wanted, *real.shape[1:], generator=torch.Generator().manual_seed(seed))
    return dict(zip(("noise", "noise_stderr"), map(_finite, measure.estimate(mean + std * normal)), strict=True))


@contextmanager
def _saying(say: Say | None, setup: Setup, chosen: Sequence[Sampler], size: Size) -> Iterator[None]:
    """Announce the time of the samplers, and say how far they are, inside a `with` block."""
    if say is None or not chosen:
        yield
        return
    progress = Progress(say, setup, chosen)
    progress.announce(size)
    with progress.watching():
        yield


@contextmanager
def _evaluating(flow: FlowMap) -> Iterator[None]:
    """Put a flow map into evaluation mode inside a `with` block."""
    was_training = flow.training
    flow.eval()
    try:
        yield
    finally:
        flow.train(was_training)


def _result(table: list[dict[str, Any]], truth: dict[str, Any], found: Sequence[Measure]) -> dict[str, Any]:
    """The metric with its floor, the table, the floors of the other measures, and the error of the map."""
    main, *others = map(_in_head, found)
    return {"metric": found[0].title, **main, "rows": table, **_merged(others), **truth}


def _about(data: Data, rows: Draws, setup: Setup) -> dict[str, Any]:
    """The data, the sample counts and the device of an evaluation."""
    return {
        "data": data.name,
        "samples": rows.n,
        "draws": rows.wanted // rows.n,
        "batch_size": setup.batch_size,
        "device": str(setup.noise.device),
        "threads": torch.get_num_threads(),
    }


def _titles(found: Sequence[Measure]) -> dict[str, str]:
    """The meaning of each measure by key."""
    return {measure.key: measure.title for measure in found}


def _row(setup: Setup, sampler: Sampler, found: Sequence[Measure]) -> dict[str, Any]:
    """A row of the table."""
    sampled = setup.run(sampler)
    known = is_measurable(sampled.x, f"{sampler.name} in {sampler.steps} steps")
    estimates = (measure.estimate(sampled.x) if known else Estimate(math.nan, math.nan) for measure in found)
    main, *others = map(_in_row, found, estimates)
    return {
        "sampler": sampler.name,
        "steps": sampler.steps,
        **main,
        "seconds_per_sample": sampled.seconds_per_sample,
        "network_calls": sampled.network_calls,
        "samples": len(sampled.x),
        **_merged(others),
    }


def _warn(text: str) -> None:
    """Announce a large evaluation."""
    warnings.warn(text, stacklevel=4)


def _in_row(measure: Measure, estimate: Estimate) -> dict[str, float | None]:
    """{"distance": ..., "stderr": ...} for the main measure; under its own key for another."""
    names = ("distance", "stderr") if measure.key == "distance" else (measure.key, f"{measure.key}_stderr")
    return dict(zip(names, map(_finite, estimate), strict=True))


def _in_head(measure: Measure) -> dict[str, float | None]:
    """{"floor": ..., "floor_stderr": ...} for the main measure, its key before them for another."""
    prefix = "" if measure.key == "distance" else f"{measure.key}_"
    return dict(zip((f"{prefix}floor", f"{prefix}floor_stderr"), map(_finite, measure.floor), strict=True))


def _merged(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One dict of several."""
    return {name: value for part in parts for name, value in part.items()}


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None
