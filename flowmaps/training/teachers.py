"""Teachers of a method: models that are not registered as its submodules, but must be on its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.transforms import GuidanceScales, transforms_of
from ..flow_map import FlowMap, GuidanceSpec
from ..method.method import Method
from ..velocity import Auxiliary, Fixed, Phased


def teachers(method: Method) -> Iterator[nn.Module]:
    """Iterate over the teachers of all terms and stages that are modules; `method.to(device)` does not move them."""
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            teacher = teacher_of(source)
            if isinstance(teacher, nn.Module):
                yield teacher


def move_teachers(method: Method, device: torch.device) -> None:
    """Move the teachers of a method to a device."""
    for teacher in teachers(method):
        teacher.to(device)


def refuse_student(flow: FlowMap, method: Method) -> None:
    """Refuse a teacher that shares trained weights with the flow map: it would change with every step.

    Frozen weights may be shared, as a flow map with LoRA and its teacher do.

    Args:
        flow: The flow map to train.
        method: The method, with its teachers.

    Raises:
        ValueError: A teacher shares trained weights.
    """
    mine = {weight.data_ptr() for weight in flow.parameters() if weight.requires_grad} - {0}
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            teacher = None if isinstance(source, Auxiliary) else teacher_of(source)  # an auxiliary network is a copy
            if isinstance(teacher, nn.Module) and any(weight.data_ptr() in mine for weight in teacher.parameters()):
                raise ValueError(
                    "the teacher shares trained weights with the flow map, so the flow map would learn from itself: "
                    "give a copy, copy.deepcopy(teacher), or take a method of self-distillation, which needs no teacher"
                )


def teacher_of(source: Any) -> Any:
    """Return the model that a velocity source holds but does not register as a submodule.

    Args:
        source: A velocity source.

    Returns:
        The teacher of a `Fixed`, the first teacher of a `Phased`, the start of an `Auxiliary` (its output and path are
        used); None for other sources.
    """
    if isinstance(source, Phased):
        return teacher_of(source.first)
    if isinstance(source, Auxiliary):
        return source._start
    return source.teacher if isinstance(source, Fixed) else None


def guidance_of(method: Method, data: Data) -> GuidanceSpec | None:
    """Find the guidance that a flow map learns from a method.

    Args:
        method: The method; its velocity sources or teachers have the guidance.
        data: The data set; its `GuidanceScales` give the range of a guidance-conditioned scale.

    Returns:
        The guidance, or None if there is none.
    """
    sources = (source for term in method.terms for source in (term.velocity, *term.sources.values()))
    known = (getattr(one, "guidance", None) for source in sources for one in (source, teacher_of(source)))
    found = next((spec for spec in known if isinstance(spec, GuidanceSpec)), None)
    if found is None or not found.is_conditioned:
        return found
    drawn = (one for one in transforms_of(data) if isinstance(one, GuidanceScales))
    return next((replace(found, scale=(one.low, one.high)) for one in drawn), found)
