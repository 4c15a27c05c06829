"""The effect of guidance on samples, scale by scale: accuracy by a classifier, diversity in a class, distance to data.

Guidance trades the last two for the first, so none of them says anything alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..data import Data
from ..flow_map import FlowMap
from ..sampling import sample
from ..steps import Step
from .cost import Sampled, measured
from .distances import Estimate, frechet_distance
from .features import Classifier, Features, classifier_features
from .measures import Draws, between, draw, mean_and_stderr

SCALES = (1.0, 2.0, 4.0)
MOST_OF_A_CLASS = 1024
"""Rows of a class whose pairs are compared, which bounds the memory."""


@dataclass(frozen=True)
class GuidedSampler:
    """A sampler at one scale of guidance: a row of the table.

    Attributes:
        name: The name of the step.
        steps: The number of steps.
        step: The step.
        scale: The guidance scale.
        flow: The object that the step calls, with `given(**condition)`.
        map: The flow map inside, whose network calls are counted.
        condition: The conditions beside the label, tensors of one row.
        run: The name of the run, if it is another one than the table's.
        reference: Whether it is one of the many-step samplers with which the others are compared.
    """

    name: str
    steps: int
    step: Step
    scale: float
    flow: Any
    map: FlowMap
    condition: dict[str, Tensor]
    run: str | None = None
    reference: bool = False

    def draw(self, noise: Tensor, label: Tensor, batch_size: int) -> Sampled:
        """Draw samples of given classes.

        Args:
            noise: The states at t = 1, (N, *shape).
            label: The classes (N,).
            batch_size: Samples at a time.

        Returns:
            Samples on the CPU, with their cost.
        """

        def rows(which: slice) -> Tensor:
            x, y = noise[which], label[which]
            given = {name: value.to(x.device).expand(len(x)) for name, value in self.condition.items()}
            return sample(self.flow, x, self.steps, step=self.step, condition={"label": y, **given}, seed=which.start)

        return measured(self.map.network, rows, len(noise), batch_size)


Guided = GuidedSampler


def accuracy(classifier: Classifier, x: Tensor, label: Tensor) -> Estimate:
    """The share of rows that the classifier assigns to their label.

    Args:
        classifier: The classifier.
        x: Images (N, C, H, W).
        label: Their labels (N,).

    Returns:
        The share, and as its standard error the deviation of its posterior under a uniform prior, which is never 0.
    """
    right, n = round(classifier.accuracy(x, label) * len(x)), len(x)
    likely = (right + 1) / (n + 2)
    return Estimate(right / n, math.sqrt(likely * (1 - likely) / (n + 3)))


def diversity(rows: Tensor, label: Tensor) -> Estimate:
    """The mean distance |a - b| of two rows of one class, each class counting alike; unbiased.

    The standard error is the one of a U-statistic, 4 Var E[|a - b| given a] / n for each class (Hoeffding 1948, doi
    10.1214/aoms/1177730196). Classes with a single row are left out.

    Args:
        rows: Features (N, K).
        label: Classes (N,).

    Returns:
        The distance and its standard error.

    Raises:
        ValueError: If no class has two rows.
    """
    means, variances = [], []
    for k in label.unique():
        of_class = rows[label == k][:MOST_OF_A_CLASS].flatten(1).double()
        if (n := len(of_class)) > 1:
            others = torch.cdist(of_class, of_class).sum(1) / (n - 1)
            means.append(float(others.mean()))
            variances.append(4 * float(others.var()) / n)
    if not means:
        raise ValueError("the diversity of a class needs two of its rows at least")
    return Estimate(sum(means) / len(means), math.sqrt(sum(variances)) / len(means))


@dataclass(frozen=True)
class Column:
    """A measure of samples (N, *shape) with their labels (N,), and its value for held-out data."""

    key: str
    title: str
    estimate: Callable[[Tensor, Tensor], Estimate]
    data: Estimate


def columns(data: Data, rows: Draws, classifier: Classifier, features: Features, n: int, seed: int) -> Iterator[Column]:
    """The measures: accuracy, diversity, distance.

    Args:
        data: Images with classes.
        rows: Draws of the data for the distance; its floor is the distance between training and held-out rows.
        classifier: The classifier of accuracy and diversity.
        features: The features of the distance.
        n: Held-out rows for accuracy and diversity of the data.
        seed: Fixes these rows.

    Yields:
        One measure after another.
    """
    held_out = data.held_out(n, seed)
    assert held_out.label is not None
    of_class = "a small classifier trained on the data's labels"
    recognised = partial(accuracy, classifier)
    title = f"share of samples that {of_class} takes for the class asked for"
    yield Column("accuracy", title, recognised, recognised(held_out.x0, held_out.label))
    spread = lambda x, label: diversity(classifier_features(classifier)(x), label)  # noqa: E731
    title = f"mean distance of two samples of one class, in the whitened features of {of_class}"
    yield Column("diversity", title, spread, spread(held_out.x0, held_out.label))
    far = between("distance", f"Fréchet distance in {features.name}", frechet_distance, rows, features)
    yield Column(far.key, far.title, lambda x, label: far.estimate(x), far.floor)


def by_scale(
    samplers: Sequence[GuidedSampler],
    data: Data,
    classifier: Classifier,
    *,
    features: Features | None = None,
    n: int = 2048,
    draws: int = 8,
    seed: int = 0,
    batch_size: int = 256,
) -> dict[str, Any]:
    """Measure accuracy, diversity and distance to held-out data, scale by scale, from the same noise and labels.

    Args:
        samplers: The samplers.
        data: Images with classes.
        classifier: A classifier of these classes.
        features: The features of the distance; None takes those of the classifier.
        n: Rows on either side of a distance.
        draws: The number of disjoint draws of n samples over which a distance is averaged.
        seed: Fixes noise, labels and rows.
        batch_size: Samples at a time.

    Returns:
        A dict that JSON can hold. "rows": "sampler", "steps", "scale", "run" if it is of another run, and the measures,
        each with "KEY_stderr". "data": the measures of held-out data. "measures": the meaning of the keys. If there are
        reference samplers, "to_reference" is the distance to their samples at the same scale, from other noise; for
        themselves it is the floor of this distance.
    """
    features = classifier_features(classifier) if features is None else features
    rows = draw(data, n, draws, seed)
    found = list(columns(data, rows, classifier, features, n * draws, seed))
    count = max(2, draws) * rows.n
    label = data.draw(count, seed).label
    assert label is not None
    noise = torch.randn(count, *data.shape, generator=torch.Generator().manual_seed(seed))
    table, seen = [], []
    for one in samplers:
        sampled = one.draw(*on_its_device(one, noise, label), batch_size)
        seen.append(features(sampled.x).split(rows.n))
        table.append(_row(one, sampled, {column.key: column.estimate(sampled.x, label) for column in found}))
    of_reference = {one.scale: mine for one, mine in zip(samplers, seen, strict=True) if one.reference}
    of_reference = {} if all(one.reference for one in samplers) else of_reference
    for one, mine, row in zip(samplers, seen, table, strict=True):
        if one.scale in of_reference:
            row.update(_pair("to_reference", _apart(mine, of_reference[one.scale])))
    titles = {column.key: column.title for column in found}
    if of_reference:
        titles["to_reference"] = "the same distance, to samples of the reference at the same scale, from other noise"
    known = {name: value for column in found for name, value in _pair(column.key, column.data).items()}
    return {"rows": table, "data": known, "measures": titles, "samples": rows.n, "draws": count // rows.n}


def on_its_device(one: GuidedSampler, noise: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Move noise and labels to a sampler.

    Args:
        one: The sampler.
        noise: Standard normal noise (N, *shape).
        label: Labels (N,).

    Returns:
        Noise of the sampler's scale at t = 1, and labels, on the device of its weights; the noise in their precision.
    """
    like = one.map.like
    noise = one.map.path.sigma(torch.ones(())) * noise
    return noise.to(like), label.to(like.device)


def _apart(rows: Sequence[Tensor], others: Sequence[Tensor]) -> Estimate:
    """The mean distance of each draw to the next draw of the others; the draw of the same number has the same noise."""
    return mean_and_stderr([frechet_distance(*pair) for pair in zip(rows, others[1:], strict=False)])


def _row(one: GuidedSampler, sampled: Sampled, found: dict[str, Estimate]) -> dict[str, Any]:
    """A row of the table."""
    return {
        **({} if one.run is None else {"run": one.run}),
        "sampler": one.name,
        "steps": one.steps,
        "scale": one.scale,
        **{name: value for key, estimate in found.items() for name, value in _pair(key, estimate).items()},
        "network_calls": sampled.network_calls,
        "seconds_per_sample": sampled.seconds_per_sample,
    }


def _pair(key: str, estimate: Estimate) -> dict[str, float | None]:
    """A measure with its standard error, by key; JSON has no NaN, which is the error of a single draw."""
    values = (value if math.isfinite(value) else None for value in estimate)
    return dict(zip((key, f"{key}_stderr"), values, strict=True))
