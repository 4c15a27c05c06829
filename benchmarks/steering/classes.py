"""Steering to each class of the digits: the measures of a method at a budget of network calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.steering.labels import METHODS
from benchmarks.steering.networks import Networks, data
from flowmaps.evaluate import Estimate, counting, frechet_distance

CLASSES, TUNED = tuple(range(10)), (0, 1, 2, 3, 4)
"""The classes, and those on which settings are chosen."""
HALF, GROUPS, TRIED = 87, 4, 2
"""Half of the images of the rarest class, groups of as many samples of each class, and groups that settings have."""
SEED, OTHER = 0, 1
"""Seeds of the noise, of the measures and of the choice of settings."""


def labels(n: int, classes: Sequence[int] = CLASSES) -> Tensor:
    """Each class n times, one class after another."""
    return torch.tensor(classes).repeat_interleave(n)


@contextmanager
def passes(networks: Networks) -> Iterator[Callable[[], int]]:
    """Count the rows of all forward and backward passes of the networks in use."""
    with ExitStack() as stack:
        found = [stack.enter_context(counting(flow.network)) for flow in networks.in_use()]
        yield lambda: sum(one.rows + one.backward_rows for one in found)


@cache
def real(split: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Two random halves of the images of each class, of `HALF` images: to compare samples with, and for the floor."""
    rows, others = data().draw(data().size or 0), data().held_out(10**6)
    assert rows.label is not None and others.label is not None
    x, label = torch.cat([rows.x0, others.x0]), torch.cat([rows.label, others.label])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(split))
    of_class = [x[order][label[order] == k] for k in CLASSES]
    return tuple((rows[:HALF], rows[-HALF:]) for rows in of_class)


def distance(groups: Sequence[Sequence[Tensor]], features: Any, classes: Sequence[int] = CLASSES) -> Estimate:
    """Mean over classes of the Fréchet distance of samples to half of the images of their class.

    Args:
        groups: Groups of samples, with `HALF` samples of each class.
        features: The features.
        classes: The classes.

    Returns:
        The mean over the groups, each with another half of the images, and its standard error by their spread.
    """
    found = [
        mean(frechet_distance(features(x), features(real(split)[k][0])) for k, x in zip(classes, group, strict=True))
        for split, group in enumerate(groups)
    ]
    return Estimate(mean(found), stdev(found) / math.sqrt(len(found)) if len(found) > 1 else 0.0)


def grouped(x: Tensor, label: Tensor, classes: Sequence[int] = CLASSES) -> list[list[Tensor]]:
    """Samples in groups of `HALF` of each class, in random order: particles that were resampled stand together."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))
    parts = [x[order][label[order] == k].split(HALF) for k in classes]
    return [list(group) for group in zip(*parts, strict=True)]


def measures(networks: Networks, x: Tensor, label: Tensor) -> dict[str, Any]:
    """Accuracy and diversity by the judge, the distance in its features, and the steering classifier's accuracy."""
    features = fm.evaluate.classifier_features(networks.judge)
    of_class = labels(1)[torch.isin(labels(1), label)].tolist()
    found = {
        "accuracy": fm.evaluate.accuracy(networks.judge, x, label),
        "diversity": fm.evaluate.diversity(features(x), label),
        "distance": distance(grouped(x, label, of_class), features, of_class),
    }
    own = fm.evaluate.accuracy(networks.classifier, x, label).value
    distinct = len(x.flatten(1).unique(dim=0)) / len(x)
    pairs = {key: {"value": one.value, "stderr": one.stderr} for key, one in found.items()}
    return {**pairs, "own_accuracy": own, "distinct": distinct}


def floors(networks: Networks) -> dict[str, Any]:
    """The measures of real images: other halves of each class, against the same halves."""
    x = torch.cat([real(split)[k][1] for k in CLASSES for split in range(GROUPS)])
    held_out = data().held_out(10**6)
    assert held_out.label is not None
    features = fm.evaluate.classifier_features(networks.judge)
    groups = [[real(split)[k][1] for k in CLASSES] for split in range(GROUPS)]
    return measures(networks, x, labels(HALF * GROUPS)) | {
        "distance": distance(groups, features)._asdict(),
        "accuracy": fm.evaluate.accuracy(networks.judge, held_out.x0, held_out.label)._asdict(),
        "own_accuracy": fm.evaluate.accuracy(networks.classifier, held_out.x0, held_out.label).value,
        "distinct": 1.0,
    }


def result(networks: Networks, name: str, budget: int) -> dict[str, Any]:
    """Choose the settings of a method at a budget, and measure it.

    Of several settings the one with the smallest distance on five classes, with other noise, is chosen. A setting that
    needs more calls than the budget does not count.
    """
    method, tried = METHODS[name], []
    method.draw(networks, labels(2), budget, OTHER, **method.settings[0])  # makes the networks, whose calls are counted
    for setting in method.settings if len(method.settings) > 1 else ():
        label = labels(HALF * TRIED, TUNED)
        x, _, calls = counted(networks, method.draw, label, budget, OTHER, **setting)
        found = measures(networks, x, label)
        kept = {key: found[key]["value"] for key in ("distance", "accuracy")}
        tried.append({"setting": setting, "calls": calls, **kept})
    fits = [one for one in tried if one["calls"] <= budget]
    chosen = min(fits, key=lambda one: one["distance"])["setting"] if fits else method.settings[0]
    label = labels(HALF * GROUPS)
    x, ess, calls = counted(networks, method.draw, label, budget, SEED, **chosen)
    found = {"calls": calls, "setting": chosen, "tried": tried, **measures(networks, x, label)}
    return found if ess is None else {**found, "ess": float(ess.mean())}


def counted(networks: Networks, draw: Any, label: Tensor, *arguments: Any, **setting: Any) -> tuple[Any, Any, float]:
    """Samples, the effective shares of particles, and the passes of a sample."""
    with passes(networks) as so_far:
        x, ess = draw(networks, label, *arguments, **setting)
        return x, ess, so_far() / len(label)
