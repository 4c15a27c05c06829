"""What guidance does to samples, scale by scale: the share that a classifier takes for the class asked for, how much
samples of a class differ, and their distance to data.

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
    """A sampler at one scale of guidance, a row of the table.

    flow: what the step asks, with `given(**condition)`; condition: what it is told beside the label, tensors of one
    row; map: the flow map that it is made of, whose network calls are counted. run: of another run, its name.
    reference: whether it is one of the many-step samplers that the others are compared with.
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
        """Samples of these labels, on the CPU."""

        def rows(which: slice) -> Tensor:
            x, y = noise[which], label[which]
            told = {name: value.to(x.device).expand(len(x)) for name, value in self.condition.items()}
            return sample(self.flow, x, self.steps, step=self.step, condition={"label": y, **told}, seed=which.start)

        return measured(self.map.network, rows, len(noise), batch_size)


Guided = GuidedSampler


def accuracy(classifier: Classifier, x: Tensor, label: Tensor) -> Estimate:
    """The share of rows that the classifier takes for their label, and its standard error: that of the share's
    posterior under a uniform prior, which is not 0 where all rows are.
    """
    right, n = round(classifier.accuracy(x, label) * len(x)), len(x)
    likely = (right + 1) / (n + 2)
    return Estimate(right / n, math.sqrt(likely * (1 - likely) / (n + 3)))


def diversity(rows: Tensor, label: Tensor) -> Estimate:
    """The mean distance |a - b| of two rows (N, K) of one class, each class counting alike.

    Unbiased; the standard error is that of a U-statistic, 4 Var E[|a - b| given a] / n for each class (Hoeffding 1948,
    doi 10.1214/aoms/1177730196). Classes with a single row say nothing and are left out; ValueError where all do.
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
    """A measure of samples (N, *shape) with their labels (N,), and what held-out data get."""

    key: str
    title: str
    estimate: Callable[[Tensor, Tensor], Estimate]
    data: Estimate


def columns(data: Data, rows: Draws, classifier: Classifier, features: Features, n: int, seed: int) -> Iterator[Column]:
    """The measures; those of data are on held-out rows, the distance between training and held-out rows."""
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
    """Accuracy, diversity and distance to held-out data of each sampler at its scale, from the same noise and labels.

    features: of the distance, by default those of the classifier. n, draws: as for `evaluate`.

    Returns a JSON-able dict: "rows" with "sampler", "steps", "scale", and "run" where it is of another run, and the
    measures, each with "KEY_stderr"; "data", what held-out data get; "measures", what the keys mean. Where there are
    reference samplers, "to_reference" is the distance to their samples at the same scale, from other noise, and for
    themselves the floor of that.
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
    """Noise of the sampler's own scale at t = 1, and labels, where its weights are and in their precision."""
    like = one.map.like
    noise = one.map.path.sigma(torch.ones(())) * noise
    return noise.to(like), label.to(like.device)


def _apart(rows: Sequence[Tensor], others: Sequence[Tensor]) -> Estimate:
    """The mean distance of draws to the next draw of the others: that of the same number has the same noise."""
    return mean_and_stderr([frechet_distance(*pair) for pair in zip(rows, others[1:], strict=False)])


def _row(one: GuidedSampler, sampled: Sampled, found: dict[str, Estimate]) -> dict[str, Any]:
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
    """JSON has no NaN, which is the error of a single draw."""
    values = (value if math.isfinite(value) else None for value in estimate)
    return dict(zip((key, f"{key}_stderr"), values, strict=True))
