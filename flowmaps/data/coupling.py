"""Couplings: data with the noise from which a teacher generates it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least, check_seed, shown
from ..arguments.memory import check_room
from ..flow_map import FlowMap
from ..path import linear
from ..sampling import sample
from ..serialise import public_name
from ..steps import Step, heun
from ..units import units_of
from .check import check_finite
from .core import NOISE, Batch, Data, generator
from .labels import takes_labels
from .objects import as_data
from .sources import Finite, TensorRows
from .standardise import with_units


@dataclass(frozen=True, eq=False)
class Coupled:
    """A source with couplings as training batches.

    Args:
        pairs: Table of the couplings.
        data: The data set they stand for, which gives the rows of `draw` and `held_out`.
        labels: Whether rows have labels.
    """

    pairs: Finite
    data: Data
    labels: bool

    @property
    def size(self) -> int:
        """Number of couplings."""
        return self.pairs.size

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        """Batches of couplings, as in `Source`."""
        return self.pairs.batches(batch_size, seed, start, rows)

    def draw(self, n: int, seed: int) -> Batch:
        """Training rows of the data set, as in `Source`."""
        return self._labelled(self.data.draw(n, seed))

    def held_out(self, n: int, seed: int) -> Batch:
        """Held-out rows of the data set, as in `Source`."""
        return self._labelled(self.data.held_out(n, seed))

    def _labelled(self, batch: Batch) -> Batch:
        """The batch, without labels if the couplings have none."""
        return batch if self.labels else batch._replace(label=None)


def reflow(
    teacher: Any,
    data: Any,
    n: int = 50_000,
    *,
    steps: int = 100,
    step: Step = heun,
    seed: int = 0,
    batch_size: int = 1000,
    labels: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Couple noise with the samples of a teacher's ODE from it, as training data for any method.

        eps ~ N(0, I),   x_0 = x(0)  where  dx/dt = v(x, t),  x(1) = sigma(1) eps

    A training batch holds x_0 and its eps, so x_s = alpha_s x_0 + sigma_s eps lies on one chord of the coupling. The
    coupling has the marginals of noise and data, and the mean of the chords through a point is a velocity with
    straighter paths: training on it is one more rectification (Liu, Gong and Liu 2023, Flow Straight and Fast, arXiv
    2209.03003, algorithm 1; there time runs from noise to data).

    Args:
        teacher: A FlowMap, an exact distribution, or anything with velocity(x, t). Its `path` is used, or else the
            linear path.
        data: The data set that the couplings stand for, as in `as_data`. It gives the shape, the labels and the rows of
            `draw` and `held_out`, so that evaluation compares with data.
        n: Number of couplings, kept in memory.
        steps: Number of steps of the ODE solver from t = 1 to t = 0.
        step: Step of the ODE solver. A flow map may use `steps.jump`.
        seed: Seed of the noise and the labels.
        batch_size: Number of rows that the teacher computes at once.
        labels: Whether the teacher gets labels, drawn as in the training batches of the data. None: if it is a FlowMap
            and its network takes labels. Without labels the couplings have no classes.
        progress: Function (couplings done, n) that is called after each batch.

    Returns:
        A data set with `noise` in its training batches.

    Raises:
        TypeError: The teacher has no velocity, or the step is no function.
        ValueError: Labels are requested and the data have none, samples are not finite, a number is below 1, or the
            couplings do not fit into the memory.
    """
    data, (x0, label, noise) = made_pairs(teacher, data, n, steps, step, seed, batch_size, labels, progress)
    labels = label is not None
    made = {"teacher": _kind(teacher), "signature": signature(teacher)}
    return replace(
        data,
        name=f"reflow of {data.name}",
        source=Coupled(Finite(TensorRows(x0, label, noise), None), data, labels),
        classes=data.classes if labels else None,
        class_names=data.class_names if labels else None,
        exact=None,  # the couplings have another flow map
        coupling={**made, "n": n, "steps": steps, "step": step, "seed": seed},
    )


def made_pairs(
    teacher: Any,
    data: Any,
    n: int,
    steps: int,
    step: Step,
    seed: int,
    batch_size: int,
    labels: bool | None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Data, tuple[Tensor, Tensor | None, Tensor]]:
    """Make couplings of noise with a teacher's samples, with the arguments and errors of `reflow`.

    Returns:
        The data set, in the teacher's units, and the samples (n, *shape), their labels (n,) or None, and their noise.
    """
    if not callable(getattr(teacher, "velocity", None)) or isinstance(teacher, type):
        raise TypeError(f"couplings are made by a velocity, an object with velocity(x, t), got {shown(teacher)}")
    if not callable(step):
        raise TypeError(f"a step is a function such as steps.heun, got {shown(step)}")
    units = units_of(teacher)
    data = with_units(as_data(data), units)
    at_least(1, n=n, steps=steps, batch_size=batch_size)
    check_seed(seed)
    check_room(2 * n * math.prod(data.shape) * 4, f"{n:,} couplings take", "make fewer couplings")
    labels = _uses_labels(teacher, data, labels)
    label = _labels(data, n, batch_size, seed) if labels else None
    noise = _noise(teacher, (n, *data.shape), seed)
    plain = teacher if units is None else teacher.standardised()  # rows of the data set are standardised too
    x0 = _solved(plain, noise, label, steps, step, batch_size, progress)
    check_finite(x0, f"samples of the teacher for {data.name}")
    return data, (x0, label, noise)


def _uses_labels(teacher: Any, data: Data, wanted: bool | None) -> bool:
    """Whether the teacher gets labels. Raises ValueError if they are wanted and the data have none."""
    if wanted and data.classes is None:
        raise ValueError(f"labels=True needs data with class labels, and {data.name} has none")
    takes = isinstance(teacher, FlowMap) and takes_labels(teacher.network) and "label" not in teacher.condition
    return data.classes is not None and (takes if wanted is None else wanted)


def _labels(data: Data, n: int, batch_size: int, seed: int) -> Tensor:
    """Labels of the first n rows of the training batches."""
    batches = islice(data.batches(batch_size, seed), -(-n // batch_size))
    return torch.cat([batch.label for batch in batches if batch.label is not None])[:n]


def _noise(teacher: Any, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise in the dtype of the teacher's weights, or in the default dtype."""
    dtype = next((weight.dtype for weight in _weights(teacher)), torch.get_default_dtype())
    return torch.randn(shape, generator=generator(seed, 0, NOISE), dtype=dtype)


def _solved(
    teacher: Any,
    noise: Tensor,
    label: Tensor | None,
    steps: int,
    step: Step,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    """Samples of the teacher's ODE from the noise, batch by batch."""
    device = next((weight.device for weight in _weights(teacher)), noise.device)
    start = getattr(teacher, "path", linear).noise(noise)
    x0 = torch.empty_like(noise)
    for at in range(0, len(noise), batch_size):
        rows = slice(at, at + batch_size)
        condition = None if label is None else label[rows].to(device)
        x0[rows] = sample(teacher, start[rows].to(device), steps, step=step, condition=condition).to(x0)
        if progress is not None:
            progress(min(rows.stop, len(noise)), len(noise))
    return x0


def _weights(teacher: Any) -> Iterator[Tensor]:
    """Weights of the teacher, if it is a module."""
    return teacher.parameters() if isinstance(teacher, nn.Module) else iter(())


def _kind(teacher: Any) -> str:
    """Public name of the teacher's class."""
    return public_name(type(teacher))


def signature(teacher: Any) -> float:
    """Fingerprint of a teacher's weights: the sum over its tensors of <tensor, (cos 1, cos 2, ...)>, to nine digits."""
    kept = teacher.state_dict() if isinstance(teacher, nn.Module) else vars(teacher)
    flat = [value.detach().double().cpu().flatten() for value in kept.values() if isinstance(value, Tensor)]
    total = sum(float(v @ torch.arange(1, len(v) + 1, dtype=v.dtype).cos()) for v in flat)
    return float(f"{total:.9g}")
