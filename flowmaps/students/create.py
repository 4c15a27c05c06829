"""From a teacher to its student."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..flow_map import FlowMap
from ..networks.embeddings import TimeConditioning, gap
from ..outputs import Output
from ..path import Path
from ..pretrained import Pretrained, Reading
from .places import Places, common_width, find
from .student import Diagonal, Student, at_times, clock
from .tame import ROUGH, Tame


def student(
    teacher: Pretrained | FlowMap,
    times: TimeConditioning = gap,
    *,
    told: Sequence[str] = (),
    tame: bool = True,
    places: Places | None = None,
) -> FlowMap:
    """A flow map to train, from a copy of the teacher's weights; before the first step V(x, s, s) is the teacher's
    velocity, exactly.

    times: `students.added` (default), where V(x, s, t) is first the velocity at s for every t; `students.decoupled` or
    `students.Decoupled(share)`, no new weights (Lee et al. 2025, arXiv 2510.24474); `students.source_only`, a partial
    map to t = 0, as in latent consistency models (Luo et al. 2023, arXiv 2310.04378). told: conditions that are
    numbers, such as ("guidance",), which the student is to know besides; without an effect at first.

    tame: where the time embedding is rough, as one of 1000 t is, derivatives of V in s and t are those of a smooth
    embedding fitted to it, while values stay what they are; so they are then not the limits of differences of values
    (`derivative.finite_difference`). The embedding itself is no longer trained, a smooth function added to it is. See
    `students.Tame`.

    Exactly means with the same arithmetic: torch computes some layers by other kernels where weights are trained, which
    may change the last digit. Of a FlowMap the velocity alone is kept, V(x, s, s). places: where the network learns the
    time, if it does not say it itself. Raises TypeError for a teacher without a network, ValueError for a network of
    which no places are known and for a partial flow map.
    """
    network, reading, output, path = _parts(teacher)
    network = copy.deepcopy(network)
    for weight in network.parameters():
        weight.requires_grad_(weight.is_floating_point())
    known = find(network) if places is None else places
    made = Student(network, reading, times, told, tame and roughness(network, reading, known) > ROUGH, places)
    made.fit()
    only_target = None if sees_target(times, made.depth) else 0.0
    flow = FlowMap(made, output, path, only_target=only_target, guidance=getattr(teacher, "guidance", None))
    flow.condition = dict(teacher.condition)
    return flow.train(teacher.training)


def _parts(teacher: Any) -> tuple[nn.Module, Reading | None, Output, Path]:
    """The network of one time, how it is asked and read, and the path."""
    if isinstance(teacher, Pretrained):
        return teacher.network, teacher.reading, teacher.reading, teacher.path
    if not isinstance(teacher, FlowMap):
        raise TypeError(
            f"a student starts from the weights of a network, but the teacher is a {type(teacher).__name__}: give a "
            "FlowMap, or a model with its schedule, fm.teacher(model, predicts, schedule)"
        )
    if teacher.only_source is not None or teacher.only_target is not None:
        raise ValueError("this teacher is a partial flow map, which does not know its velocity")
    return Diagonal(teacher.network), None, teacher.output, teacher.path


def roughness(network: nn.Module, reading: Reading | None, places: Places) -> float:
    """The largest ratio, of the network's embeddings, of the derivative in time to that of the smooth fit."""
    like = next(network.parameters())
    embedders = places.embedders(network)
    width = common_width(embedders, clock(reading, torch.linspace(0.25, 0.75, 3, device=like.device)))
    return max(Tame(width).to(like.device).fit(at_times(embedder, reading)) for embedder in embedders)


def sees_target(times: TimeConditioning, depth: int) -> bool:
    """Whether any layer sees t."""
    return times(0.5, 0.0, depth) != times(0.5, 1.0, depth)
