"""Data coupled with the noise that a teacher makes it from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..flow_map import FlowMap
from ..path import linear
from ..sampling import sample
from ..serialise import public_name
from ..steps import Step, heun
from .check import check_finite
from .core import NOISE, Batch, Data, at_least, generator
from .labels import takes_labels
from .objects import as_data
from .sources import Finite, TensorRows


@dataclass(frozen=True, eq=False)
class Coupled:
    """Training batches are couplings; `draw` and `held_out` are those of the data they were made for."""

    pairs: Finite
    data: Data
    labels: bool

    @property
    def size(self) -> int:
        return self.pairs.size

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        return self.pairs.batches(batch_size, seed, start, rows)

    def draw(self, n: int, seed: int) -> Batch:
        return self._labelled(self.data.draw(n, seed))

    def held_out(self, n: int, seed: int) -> Batch:
        return self._labelled(self.data.held_out(n, seed))

    def _labelled(self, batch: Batch) -> Batch:
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
) -> Data:
    """Couplings of noise with what the teacher's ODE makes of it, as data for any method:

        eps ~ N(0, I),   x_0 = x(0)  where  dx/dt = v(x, t),  x(1) = sigma(1) eps,

    so that a training batch holds x_0 and its eps, and x_s = alpha_s x_0 + sigma_s eps is drawn along one chord of the
    coupling. Its marginals are those of noise and data, and the mean of the chords through a point is a velocity with
    straighter paths: training on it is one more rectification (Liu, Gong and Liu 2023, Flow Straight and Fast, arXiv
    2209.03003, algorithm 1; there time runs from noise to data).

    teacher: a FlowMap, an exact distribution, or anything with velocity(x, t); its `path` where it has one, else the
    linear path. data: what the couplings stand for, as in `as_data`: it gives the shape, the labels, and the rows of
    `draw` and `held_out`, so that evaluation measures against data. n: couplings, kept in memory, a function of the
    seed. steps, step: of the ODE, from t = 1 to 0; a flow map may `jump`. batch_size: rows that the teacher sees at
    once. labels: whether the teacher is told labels, drawn as in the training batches of the data; None: if it is a
    FlowMap whose network takes them. Without them the couplings have no classes.
    Raises ValueError for labels that are wanted and not there, and for samples that are not finite.
    """
    data = as_data(data)
    at_least(1, n=n, steps=steps, batch_size=batch_size)
    labels = _tells(teacher, data, labels)
    label = _labels(data, n, batch_size, seed) if labels else None
    noise = _noise(teacher, (n, *data.shape), seed)
    x0 = _solved(teacher, noise, label, steps, step, batch_size)
    check_finite(x0, f"samples of the teacher for {data.name}")
    made = {"teacher": _kind(teacher), "signature": signature(teacher)}
    return replace(
        data,
        name=f"reflow of {data.name}",
        source=Coupled(Finite(TensorRows(x0, label, noise), None), data, labels),
        classes=data.classes if labels else None,
        class_names=data.class_names if labels else None,
        exact=None,  # its flow map is not that of the couplings
        coupling={**made, "n": n, "steps": steps, "step": step, "seed": seed},
    )


def _tells(teacher: Any, data: Data, wanted: bool | None) -> bool:
    if wanted and data.classes is None:
        raise ValueError(f"labels=True needs data with class labels, and {data.name} has none")
    takes = isinstance(teacher, FlowMap) and takes_labels(teacher.network) and "label" not in teacher.condition
    return data.classes is not None and (takes if wanted is None else wanted)


def _labels(data: Data, n: int, batch_size: int, seed: int) -> Tensor:
    batches = islice(data.batches(batch_size, seed), -(-n // batch_size))
    return torch.cat([batch.label for batch in batches if batch.label is not None])[:n]


def _noise(teacher: Any, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal, in the dtype of the teacher's weights where it has any."""
    dtype = next((weight.dtype for weight in _weights(teacher)), torch.get_default_dtype())
    return torch.randn(shape, generator=generator(seed, 0, NOISE), dtype=dtype)


def _solved(teacher: Any, noise: Tensor, label: Tensor | None, steps: int, step: Step, batch_size: int) -> Tensor:
    device = next((weight.device for weight in _weights(teacher)), noise.device)
    start = noise * getattr(teacher, "path", linear).sigma(torch.ones((), dtype=noise.dtype))
    x0 = torch.empty_like(noise)
    for at in range(0, len(noise), batch_size):
        rows = slice(at, at + batch_size)
        told = None if label is None else label[rows].to(device)
        x0[rows] = sample(teacher, start[rows].to(device), steps, step=step, condition=told).to(x0)
    return x0


def _weights(teacher: Any) -> Iterator[Tensor]:
    return teacher.parameters() if isinstance(teacher, nn.Module) else iter(())


def _kind(teacher: Any) -> str:
    return public_name(type(teacher))


def signature(teacher: Any) -> float:
    """One number that tells two teachers of a kind apart: the sum over their tensors of <tensor, (cos 1, cos 2, ...)>,
    to nine digits.
    """
    kept = teacher.state_dict() if isinstance(teacher, nn.Module) else vars(teacher)
    flat = [value.detach().double().cpu().flatten() for value in kept.values() if isinstance(value, Tensor)]
    total = sum(float(v @ torch.arange(1, len(v) + 1, dtype=v.dtype).cos()) for v in flat)
    return float(f"{total:.9g}")
