"""Teachers that a method was given: they are no part of its weights, and still belong on its device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..method import Method
from ..velocity import Fixed, Phased


def move_teachers(method: Method, device: torch.device) -> None:
    """Move the teachers of all terms, of all stages, to a device, which `method.to(device)` leaves where they are."""
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            teacher = teacher_of(source)
            if isinstance(teacher, nn.Module):
                teacher.to(device)


def teacher_of(source: Any) -> Any:
    """What a velocity source was given as a teacher, the first one where it changes with the phases of training; None
    for other sources.
    """
    fixed = source.first if isinstance(source, Phased) else source
    return fixed.teacher if isinstance(fixed, Fixed) else None
