"""Teachers of a method: models that are not registered as its submodules, but must be on its device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.class_names import Numbering, listed
from ..data.transforms import GuidanceScales, transforms_of
from ..flow_map import FlowMap, GuidanceSpec
from ..method.method import Method
from ..networks.with_backbone import has_backbone
from ..trained import TrainedSpec
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


def check_backbone(flow: FlowMap, method: Method) -> None:
    """Raise ValueError if a teacher is a head on a backbone, and the flow map to train is none."""
    taught = any(has_backbone(getattr(teacher, "network", None)) for teacher in teachers(method))
    if taught and not has_backbone(flow.network):
        raise ValueError(
            'the teacher is a head on a backbone, so the student needs one: network="autoregressive", or '
            "fm.Autoregressive(flow, backbone)"
        )


def check_classes(flow: FlowMap, method: Method, data: Data) -> None:
    """Compare the names of the classes of a data set with those that teachers and the flow map were trained with.

    Args:
        flow: The flow map to train, which may be trained already.
        method: The method, with its teachers.
        data: The data set, whose labels the network takes.

    Raises:
        ValueError: A class has another number in a teacher, or is none of it. For the flow map this is a warning.
    """
    if data.class_names is None:
        return
    known = [part for teacher in teachers(method) for part in teacher.modules() if isinstance(part, FlowMap)]
    for owner, model in [("the flow map", flow), *(("the teacher", part) for part in known)]:
        problem = _other_classes(owner, model.trained, data)
        if problem is not None and model is not flow:
            raise ValueError(problem)
        if problem is not None:
            warnings.warn(problem, stacklevel=3)


def _other_classes(owner: str, trained: TrainedSpec | None, data: Data) -> str | None:
    """A sentence about classes that have other numbers in a model than in the data; None if there are none."""
    if trained is None or trained.classes is None or data.class_names is None:
        return None
    names = dict(enumerate(trained.class_names or ()))
    if not names and trained.classes == data.classes:
        return None
    advice = "load them with class_names=[NAMES], in the order of the model, or give its labels as (tensor, labels)"
    try:
        numbers = Numbering(owner, trained.classes, names, advice=advice).numbers(data.class_names, data.name)
    except ValueError as error:
        return str(error)
    moved = next((here for here, there in enumerate(numbers) if here != there), None)
    if moved is None:
        return None
    order = listed([names.get(number, str(number)) for number in range(trained.classes)])
    return (
        f"the class {data.class_names[moved]} of {data.name} has the number {moved}, and {numbers[moved]} in {owner}, "
        f"which was trained on {order}: {advice}"
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
