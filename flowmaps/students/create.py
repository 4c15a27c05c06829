"""Creation of a student from a teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..arguments import shown, truth
from ..flow_map import FlowMap, check_velocity
from ..networks.embeddings import TimeConditioning, gap
from ..outputs import Output
from ..path import Path
from ..pretrained import Pretrained, Reading
from ..units import units_of
from .embedders import common_width
from .student import Diagonal, Student, at_times, clock
from .tame import ROUGH, Tame
from .time_layers import TimeLayers, time_layers_of


def student(
    teacher: Pretrained | FlowMap,
    times: TimeConditioning = gap,
    *,
    told: Sequence[str] = (),
    tame: bool = True,
    places: TimeLayers | None = None,
) -> FlowMap:
    """Create a flow map to train from a copy of the teacher's weights.

    Before the first training step V(x, s, s) equals the teacher's velocity, up to the last digit: torch uses other
    kernels for some layers if their weights are trained. Of a FlowMap only the velocity V(x, s, s) is kept.

    Args:
        teacher: A pretrained model, `fm.teacher(...)`, or a FlowMap.
        times: Which layer sees which time. `students.added`: V(x, s, t) starts as the velocity at s for every t.
            `students.decoupled` or `students.Decoupled(share)`: no new weights (Lee et al. 2025, arXiv 2510.24474).
            `students.source_only`: a partial map to t = 0, as in latent consistency models (Luo et al. 2023, arXiv
            2310.04378).
        told: Names of additional numeric conditions, such as ("guidance",) for a guidance-conditioned student; they
            have no effect before training.
        tame: Whether to differentiate a smooth fit of the time embedding if the embedding oscillates fast in t, as an
            embedding of 1000 t does; values are unchanged. Derivatives are then not the limits of finite differences
            (`derivative.finite_difference`). The embedding is frozen, and a smooth function is trained in addition; see
            `students.Tame`.
        places: Time embedding and layers of the network. None: found by its attribute `flow_map_places` or its class.

    Returns:
        The student, with the teacher's path, conditions and training mode.

    Raises:
        TypeError: If the teacher has no network, or an argument is of another type.
        ValueError: If the time layers of the network are unknown, or the teacher is a partial flow map.
    """
    truth(tame=tame)
    if not callable(times):
        raise TypeError(f"times is a function such as students.added, got {shown(times)}")
    if isinstance(told, str) or not all(isinstance(name, str) for name in told):
        raise TypeError(f'told must be a list of names, such as ("guidance",), got {shown(told)}')
    network, reading, output, path = _parts(teacher)
    network = copy.deepcopy(network)
    for weight in network.parameters():
        weight.requires_grad_(weight.is_floating_point())
    known = time_layers_of(network) if places is None else places
    made = Student(network, reading, times, told, tame and roughness(network, reading, known) > ROUGH, places)
    made.fit()
    only_target = None if sees_target(times, made.depth) else 0.0
    flow = FlowMap(made, output, path, only_target=only_target, guidance=getattr(teacher, "guidance", None))
    flow.condition, flow.units = dict(teacher.condition), units_of(teacher)
    return flow.train(teacher.training)


def _parts(teacher: Any) -> tuple[nn.Module, Reading | None, Output, Path]:
    """Return the teacher's network of one time, its reading, its output and its path."""
    if isinstance(teacher, Pretrained):
        return teacher.network, teacher.reading, teacher.reading, teacher.path
    if not isinstance(teacher, FlowMap):
        raise TypeError(
            f"a student starts from the weights of a network, but the teacher is a {type(teacher).__name__}: give a "
            "FlowMap, or a model with its schedule, fm.teacher(model, predicts, schedule)"
        )
    check_velocity(teacher, "a student starts from its teacher's velocity", "take a teacher that knows all times")
    return Diagonal(teacher.network), None, teacher.output, teacher.path


def roughness(network: nn.Module, reading: Reading | None, layers: TimeLayers) -> float:
    """Compute the largest ratio of an embedding's time derivative to the derivative of its smooth fit.

    Args:
        network: The network of one time.
        reading: Conversion of x and times to its input. None: they are passed unchanged.
        layers: Its time layers.

    Returns:
        The largest ratio over its embeddings.
    """
    like = next(network.parameters())
    embedders = layers.embedders(network)
    width = common_width(embedders, clock(reading, torch.linspace(0.25, 0.75, 3, device=like.device)))
    return max(Tame(width).to(like.device).fit(at_times(embedder, reading)) for embedder in embedders)


def sees_target(times: TimeConditioning, depth: int) -> bool:
    """Whether any of `depth` layers sees t."""
    return times(0.5, 0.0, depth) != times(0.5, 1.0, depth)
