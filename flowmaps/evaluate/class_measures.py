"""Measures of class-conditional samples: accuracy by a classifier, diversity within a class, distance to data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..arguments import expect_finite, expect_floating, expect_tensor, shown
from ..data import Data
from .distances import Estimate, frechet_distance
from .features import Classifier, Features, classifier_features
from .measures import Draws, between

MOST_OF_A_CLASS = 1024
"""Largest number of rows of a class whose pairs are compared, which bounds the memory."""


@dataclass(frozen=True)
class Column:
    """A measure of labelled samples.

    Attributes:
        key: Its key in a row of the table.
        title: Its meaning.
        estimate: The function of samples (N, *shape) and their labels (N,).
        data: Its value for held-out data.
    """

    key: str
    title: str
    estimate: Callable[[Tensor, Tensor], Estimate]
    data: Estimate


def accuracy(classifier: Classifier, x: Tensor, label: Tensor) -> Estimate:
    """The share of rows that the classifier assigns to their label.

    Args:
        classifier: The classifier.
        x: Images (N, C, H, W).
        label: Their labels (N,).

    Returns:
        The share. Its standard error is the standard deviation of its posterior under a uniform prior, which is never
        0.

    Raises:
        TypeError: If these are no tensors, or there is no classifier.
        ValueError: If there are no rows, a value is not finite, or the labels are no whole numbers, one for each row.
    """
    if not callable(getattr(classifier, "accuracy", None)):
        raise TypeError(f"accuracy needs a classifier, such as train_classifier(data), got {shown(classifier)}")
    check_labelled(x, label)
    right, n = round(classifier.accuracy(x, label) * len(x)), len(x)
    likely = (right + 1) / (n + 2)
    return Estimate(right / n, math.sqrt(likely * (1 - likely) / (n + 3)))


def recognition(classifier: Classifier, data: Data, n: int = 2048, seed: int = 0) -> dict[str, float]:
    """How well a classifier knows rows that were held out: how much its features can mean.

    Args:
        classifier: The classifier, trained on the labels of the data.
        data: The data.
        n: Held-out rows.
        seed: Fixes the rows.

    Returns:
        "accuracy" with "stderr", and "commonest", the share of the commonest class, which is right without looking.

    Raises:
        ValueError: The data have no labels, or no rows are held out.
    """
    rows = data.held_out(n, seed)
    if rows.label is None:
        raise ValueError(f"the accuracy of a classifier needs labels, and {data.name} has none")
    found = accuracy(classifier, rows.x0, rows.label)
    commonest = float(rows.label.bincount().max()) / len(rows.label)
    return {"accuracy": found.value, "stderr": found.stderr, "commonest": commonest}


def diversity(rows: Tensor, label: Tensor) -> Estimate:
    """The mean distance |a - b| of two rows of one class, unbiased and with equal weight for every class.

    The standard error is the one of a U-statistic, 4 Var E[|a - b| given a] / n for each class (Hoeffding 1948, doi
    10.1214/aoms/1177730196). Classes with a single row are left out.

    Args:
        rows: Features (N, K).
        label: Classes (N,).

    Returns:
        The distance and its standard error.

    Raises:
        TypeError: If these are no tensors.
        ValueError: If no class has two rows, a value is not finite, or the labels are no whole numbers, one for each
            row.
    """
    check_labelled(rows, label)
    means, variances = [], []
    for k in label.unique():
        of_class = rows[label == k][:MOST_OF_A_CLASS].flatten(1).double()
        if (n := len(of_class)) > 1:
            others = torch.cdist(of_class, of_class).sum(1) / (n - 1)
            means.append(float(others.mean()))
            variances.append(4 * float(others.var()) / n)
    if not means:
        raise ValueError("the diversity of a class needs at least two of its rows")
    return Estimate(sum(means) / len(means), math.sqrt(sum(variances)) / len(means))


def check_labelled(x: Tensor, label: Tensor) -> None:
    """Check rows and their labels.

    Args:
        x: Rows (N, ...).
        label: Labels (N,).

    Raises:
        TypeError: These are no tensors.
        ValueError: There are no rows, a value is not finite, or the labels are no whole numbers, one for each row.
    """
    expect_floating("x", x, "(N, ...)", least=2)
    expect_tensor("label", label)
    if not len(x) or label.shape != x.shape[:1] or label.dtype not in (torch.int64, torch.int32, torch.uint8):
        raise ValueError(
            f"labels must be whole numbers, one for each row of x, got {label.dtype} of shape {tuple(label.shape)} for "
            f"x of shape {tuple(x.shape)}"
        )
    expect_finite("x", x)


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
    name = "a small classifier trained on the data's labels"
    recognised = partial(accuracy, classifier)
    title = f"share of samples that {name} takes for the class asked for"
    yield Column("accuracy", title, recognised, recognised(held_out.x0, held_out.label))
    spread = lambda x, label: diversity(classifier_features(classifier)(x), label)  # noqa: E731
    title = f"mean distance of two samples of one class, in the whitened features of {name}"
    yield Column("diversity", title, spread, spread(held_out.x0, held_out.label))
    far = between("distance", f"Fréchet distance in {features.name}", frechet_distance, rows, features)
    yield Column(far.key, far.title, lambda x, label: far.estimate(x), far.floor)
