"""The effect of guidance on samples, scale by scale: accuracy by a classifier, diversity in a class, distance to data.

Guidance raises accuracy at the cost of diversity and distance, so read the three measures together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, check_seed, shown
from ..data import Data
from ..flow_map import FlowMap
from ..sampling import sample
from ..steps import Step
from .class_measures import Column, accuracy, columns, diversity
from .cost import Sampled, measured
from .distances import Estimate, frechet_distance
from .features import Classifier, Features, classifier_features
from .measures import draw, is_measurable, mean_and_stderr

__all__ = [
    "SCALES",
    "Column",
    "Guided",
    "GuidedSampler",
    "accuracy",
    "by_scale",
    "columns",
    "diversity",
    "on_its_device",
]

SCALES = (1.0, 2.0, 4.0)
"""Guidance scales that are compared by default."""


@dataclass(frozen=True)
class GuidedSampler:
    """A sampler at one guidance scale: a row of the table.

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
"""The former name of `GuidedSampler`."""


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
        features: The features of the distance; None takes the features of the classifier.
        n: Rows on either side of a distance.
        draws: The number of disjoint draws of n samples over which a distance is averaged.
        seed: Fixes noise, labels and rows.
        batch_size: Samples at a time.

    Returns:
        A dict that JSON can hold. "rows": "sampler", "steps", "scale", "run" if it is of another run, and the measures,
        each with "KEY_stderr". "data": the measures of held-out data. "measures": the meaning of the keys. If there are
        reference samplers, "to_reference" is the distance to their samples at the same scale, from other noise; for
        themselves it is the floor of this distance. A sampler whose samples are not finite has no measures.

    Raises:
        ValueError: A number is below 1, or the data are no images with classes.
    """
    at_least(1, n=n, draws=draws, batch_size=batch_size)
    check_seed(seed)
    if data.kind != "images" or not data.classes:
        raise ValueError(f"guidance is measured on images with classes, and {data.name} holds {data.kind}")
    if not isinstance(classifier, Classifier):
        raise TypeError(f"accuracy needs a Classifier, such as train_classifier(data), got {shown(classifier)}")
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
        measurable = is_measurable(sampled.x, f"{one.name} in {one.steps} steps at scale {one.scale:g}")
        seen.append(features(sampled.x).split(rows.n) if measurable else ())
        unknown = Estimate(math.nan, math.nan)
        estimates = {column.key: column.estimate(sampled.x, label) if measurable else unknown for column in found}
        table.append(_row(one, sampled, estimates))
    titles = {column.key: column.title for column in found}
    if _compare_with_reference(samplers, seen, table):
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


def _compare_with_reference(
    samplers: Sequence[GuidedSampler], seen: Sequence[Sequence[Tensor]], table: Sequence[dict[str, Any]]
) -> bool:
    """Add to each row the distance to the reference samples of its scale. Returns whether there is a reference."""
    if all(one.reference for one in samplers):
        return False
    references = {one.scale: rows for one, rows in zip(samplers, seen, strict=True) if one.reference}
    for one, rows, row in zip(samplers, seen, table, strict=True):
        if one.scale in references:
            row.update(_pair("to_reference", _distance_to_next(rows, references[one.scale])))
    return bool(references)


def _distance_to_next(rows: Sequence[Tensor], others: Sequence[Tensor]) -> Estimate:
    """The mean distance of draw k to draw k + 1 of the others, because draw k of the others has the same noise."""
    found = [frechet_distance(*pair) for pair in zip(rows, others[1:], strict=False)]
    return mean_and_stderr(found) if found else Estimate(math.nan, math.nan)


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
    """A measure and its standard error, by key. The error of a single draw is NaN, which becomes None for JSON."""
    values = (value if math.isfinite(value) else None for value in estimate)
    return dict(zip((key, f"{key}_stderr"), values, strict=True))
