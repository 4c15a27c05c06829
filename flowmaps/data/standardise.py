"""Standardised data: the units of a data set, rows of mean 0 and standard deviation 1, and a warning for other rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..units import COARSE, Units
from .class_names import Renumber
from .core import Batch, Data, Kind, Source
from .frames import ZeroPadding
from .observed import WithMeasurement, WithState
from .sources import Finite, Fresh
from .transformed import BatchDraws, Transformed

CHUNK, ROWS = 2**14, 2**16
"""Rows of a table that are read at a time, and rows of an infinite source that are measured."""
MOST_FEATURES, FEW_FEATURES = 1024, 64
"""Features up to which each one has its own numbers in any case, and up to which each one is named in a warning."""
ALIKE = 10
"""Largest ratio of standard deviations of features that count as one signal, such as the samples of a sound."""
LEAST_STD, MOST_STD, MOST_MEAN = 0.1, 3.0, 3.0
"""Standard deviations and means of features between which no warning is given."""
SOME, PART = 8, 1.1
"""Rows from which features, and the range of images, are measured; largest length of a range that is a small part."""


@dataclass(frozen=True)
class Standardise:
    """Transform of a batch to standardised rows.

    Args:
        units: Units of the rows.
    """

    units: Units

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Standardise the rows of a batch."""
        return batch._replace(x0=self.units.standardised(batch.x0))


def is_table(data: Data) -> bool:
    """Whether rows are vectors of features or points, from a finite table: standardised by default if from a file."""
    return data.kind != "images" and data.manifold is None and len(data.shape) == 1 and isinstance(data.source, Finite)


def standardised(data: Data) -> Data:
    """Standardise a data set by the mean and standard deviation of each feature over its training rows.

    Args:
        data: The data set. Rows (D,) have D features, others (C, ...) one for each channel.

    Returns:
        A data set with `units`, whose rows have mean 0 and standard deviation 1.

    Raises:
        ValueError: The rows are images, which have a fixed range, or a distribution with a closed form.
    """
    if data.kind == "images":
        raise ValueError(
            f"{data.name} holds images, which lie in [-1, 1] and are not standardised: pass value_range=(low, high), "
            'the values that become -1 and 1, or kind="vectors"'
        )
    if data.kind == "tokens":
        raise ValueError(f"{data.name} holds one-hot rows of tokens, which are not standardised: leave standardise out")
    _refuse_points(data)
    if data.exact is not None or data.log_prob is not None:
        raise ValueError(f"{data.name} has a closed form, whose exact numbers hold in its own units: draw rows from it")
    return data if data.units is not None else with_units(data, _measured(data))


def by_channel(data: Data) -> Data:
    """Standardise sequences by the mean and standard deviation of each number of a frame, over all frames.

    So the units are the same for every frame, and sequences of any length have them.

    Args:
        data: The data set, standardised or not; rows are sequences (T, C).

    Returns:
        The data set in these units.

    Raises:
        ValueError: The rows are no sequences, or cannot be standardised.
    """
    if len(data.shape) != 2 or data.kind != "vectors":
        raise ValueError(f"rows of {data.name} are no sequences (T, C): {data.kind} of shape {data.shape}")
    raw = with_units(data, None)
    mean, std = (values.reshape(data.shape) for values in moments(_chunks(raw)))
    std = (std.square().mean(0) + mean.var(0, correction=0)).sqrt()
    return with_units(raw, Units(tuple(mean.mean(0).tolist()), tuple(std.tolist()), axis=1))


def with_units(data: Data, units: Units | None) -> Data:
    """Give a data set other units, such as the units of a run that goes on.

    Args:
        data: The data set, standardised or not.
        units: The units by which its rows are standardised. None: rows are in the units of the data.

    Returns:
        The data set.

    Raises:
        ValueError: The units have another number of features, or the rows are coupled to noise in other units.
    """
    if units == data.units:
        return data
    if data.coupling is not None:
        raise ValueError(f"the rows of {data.name} are made by a teacher in its units, and cannot get other ones")
    if units is None:
        return replace(data, source=_in(data.source, None), units=None)
    _refuse_points(data)
    units.check(data.shape, data.name)
    source = _in(data.source, units)
    return replace(data, source=source, units=units, exact=None, log_prob=None, known_std=None)


def _refuse_points(data: Data) -> None:
    """Raise ValueError for points on a manifold."""
    if data.manifold is not None:
        raise ValueError(
            f"{data.name} holds points on {data.manifold}, which are not standardised: leave standardise out, and "
            "start from a model of such points"
        )


def _in(source: Source, units: Units | None) -> Source:
    """The source with other units, below the transforms of training batches."""
    if isinstance(source, Transformed) and (not source.everywhere or _stands_above(source)):
        known = tuple(replace(t, units=units) if isinstance(t, WithMeasurement) else t for t in source.transforms)
        return replace(source, source=_in(source.source, units), transforms=known)
    if isinstance(source, Transformed) and is_standardised(source):
        source = source.source
    return source if units is None else Transformed(source, (Standardise(units),), everywhere=True)


def is_standardised(source: object) -> bool:
    """Whether a source standardises the rows of another one."""
    return isinstance(source, Transformed) and isinstance(source.transforms[0], Standardise)


def _stands_above(source: object) -> bool:
    """Whether a source gives the rows of another one, with other labels, or with observations of the rows as given."""
    above = (Renumber, WithMeasurement, WithState, ZeroPadding)
    return isinstance(source, Transformed) and isinstance(source.transforms[0], above)


def _measured(data: Data) -> Units:
    """Measure the units of a data set on its training rows."""
    mean, std = moments(_chunks(data))
    if data.columns is not None:  # one-hot blocks are left alone
        first = len(data.columns.numbers)
        mean, std = torch.cat([mean[:first], 0 * mean[first:]]), torch.cat([std[:first], 0 * std[first:] + 1])
    elif len(data.shape) > 1 or _alike(mean, std):
        groups = (
            mean.reshape(data.shape[0], -1) if len(data.shape) > 1 and data.shape[0] <= FEW_FEATURES else mean[None]
        )
        spread = std.reshape(groups.shape)
        _check_alike(spread, data)
        mean = groups.mean(1)
        std = (spread.square().mean(1) + groups.var(1, correction=0)).sqrt()
    _check_digits(mean, std, data.name)
    return Units(tuple(mean.tolist()), tuple(std.tolist()))


def _chunks(data: Data) -> Iterator[Tensor]:
    """All training rows of a finite table, or some of another source, as (B, D) in parts."""
    source = data.source
    while isinstance(source, Transformed) and _stands_above(source):
        source = source.source
    if isinstance(source, Finite):
        for rows in torch.arange(len(source.train)).split(CHUNK):
            yield source.train.take(rows).x0.flatten(1)
    else:
        yield data.draw(ROWS if isinstance(source, Fresh) else CHUNK // 4, seed=0).x0.flatten(1)


def moments(chunks: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of rows (B, D) in parts, in float64; exactly 0 for a constant feature."""
    origin: Tensor | None = None
    total = square = torch.zeros(())
    count = 0
    for x in chunks:
        rows = x.double().cpu()
        origin = rows[0] if origin is None else origin
        shifted = rows - origin
        count, total, square = count + len(rows), total + shifted.sum(0), square + shifted.square().sum(0)
    assert origin is not None
    mean = total / count
    return origin + mean, (square / count - mean.square()).clamp(min=0).sqrt()


def _alike(mean: Tensor, std: Tensor) -> bool:
    """Whether very many features look like one signal, which gets one mean and one standard deviation."""
    if len(mean) <= MOST_FEATURES:
        return False
    low, middle, high = std.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=std.dtype)).tolist()
    return high <= ALIKE * low and float((mean - mean.mean()).abs().max()) <= ALIKE * middle


def _check_alike(spread: Tensor, data: Data) -> None:
    """Warn if values that share a standard deviation, (features, values of each), differ too much for one number."""
    middle, most = spread.median(1).values, spread.max(1).values
    for feature in (most > ALIKE * middle).nonzero()[:1, 0].tolist() if len(data.shape) > 1 else ():
        warnings.warn(
            f"values of feature {feature} of {data.name} have standard deviations up to {float(most[feature]):g}, half "
            f"of them below {float(middle[feature]):g}, and share one: rows of shape {data.shape} have one for each "
            "index of the first axis, so put the axis of the features first, or give flat rows",
            stacklevel=5,
        )


def _check_digits(mean: Tensor, std: Tensor, name: str) -> None:
    """Warn of a feature that is so far from 0 that numbers of the default dtype cannot tell its values apart."""
    rough = torch.finfo(torch.get_default_dtype()).eps * mean.abs() > COARSE * std
    for feature in (rough & (std > 0)).nonzero()[:1, 0].tolist():
        warnings.warn(
            f"feature {feature} of {name} has mean {mean[feature]:g} and standard deviation {std[feature]:g}: "
            f"values of {torch.get_default_dtype()} cannot tell them apart; subtract a constant from it in the file",
            stacklevel=5,
        )


def warn_scale(x: Tensor, kind: Kind, where: str, advice: str, of_file: bool = False) -> None:
    """Warn if rows, or one of their features, are far from the range that networks and methods expect.

    Args:
        x: Some rows (B, *shape).
        kind: Their kind. Images are expected in [-1, 1], others at mean 0 and standard deviation 1.
        where: Their name in the message.
        advice: The way out for rows that are no images.
        of_file: Whether they are read from a file, with the option `value_range` for images.
    """
    if not x.is_floating_point():
        return
    if kind == "images":
        _warn_images(x, where, of_file)
        return
    whole, features = x.reshape(-1, 1), x.flatten(1) if x.ndim == 2 else x.movedim(1, -1).flatten(0, -2)
    parts = [whole] if len(x) < SOME else [whole, features]
    for rows in reversed(parts) if x.ndim == 2 and x.shape[1] <= FEW_FEATURES else parts:
        mean, std = moments([rows])
        far = (mean.abs() > MOST_MEAN) | (std > MOST_STD)
        if rows.shape[1] <= FEW_FEATURES:  # almost constant columns, as the border of flat pictures, do no harm
            far |= (std < LEAST_STD) & (std > 0)
        if not far.any():
            continue
        feature = int(far.nonzero()[0])
        which = f"feature {feature} has" if rows.shape[1] > 1 else "they have"
        others = f" (and {int(far.sum()) - 1} other features are far too)" if far.sum() > 1 else ""
        warnings.warn(
            f"rows of {where} are expected at mean 0 and standard deviation 1, the size of the noise, and {which} mean "
            f"{mean[feature]:.4g} and standard deviation {std[feature]:.4g}{others}: {advice}",
            stacklevel=5,
        )
        return


def _warn_images(x: Tensor, where: str, of_file: bool) -> None:
    """Warn if images are not in [-1, 1]: grey levels, normalised for a classifier, or in a small part of the range."""
    low, high = float(x.min()), float(x.max())
    found = f"images of {where} are expected in [-1, 1], and reach from {low:.4g} to {high:.4g}"
    if low >= -0.05 and 0.5 < high <= 1.05:
        advice = "load them with value_range=(0, 1)" if of_file else "pass 2 * x - 1"
        warnings.warn(f"{found}, so they seem to lie in [0, 1]: {advice}", stacklevel=5)
    elif low >= -1.05 and high <= 1.05:
        if len(x) >= SOME and 0 < high - low <= PART:
            advice = "scale them so that the smallest possible value becomes -1 and the largest 1"
            advice = "load them with value_range=(smallest, largest possible value)" if of_file else advice
            warnings.warn(f"{found} alone, a small part of it: {advice}", stacklevel=5)
    elif low >= 0 and high > 2:
        bits = math.ceil(math.log2(high + 1))
        top = 255 if high <= 255 else 2**bits - 1
        warnings.warn(f"{found}: pass x / {top / 2:g} - 1", stacklevel=5)
    else:
        warnings.warn(
            f"{found} (mean {float(x.mean()):.3g}, standard deviation {float(x.std(correction=0)):.3g}): if they are "
            "normalised by the mean and standard deviation of a data set, such as ImageNet's, leave this out and pass "
            "2 * x - 1 of images in [0, 1]",
            stacklevel=5,
        )
