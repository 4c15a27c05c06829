"""Teachers that a method was given: they are no part of its weights, and still belong on its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.transforms import GuidanceScales, transforms_of
from ..flow_map import GuidanceSpec
from ..method.method import Method
from ..velocity import Auxiliary, Fixed, Phased


def teachers(method: Method) -> Iterator[nn.Module]:
    """The teachers of all terms, of all stages, that are modules: `method.to(device)` leaves them where they are."""
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            given = given_to(source)
            if isinstance(given, nn.Module):
                yield given


def move_teachers(method: Method, device: torch.device) -> None:
    """Move the teachers to a device."""
    for teacher in teachers(method):
        teacher.to(device)


def given_to(source: Any) -> Any:
    """The model that a source was made with and does not keep as a part: a teacher, the first one where it changes with
    the phases of training; what an auxiliary network started from, whose output it uses. None for other sources.
    """
    if isinstance(source, Phased):
        return given_to(source.first)
    if isinstance(source, Auxiliary):
        return source._start
    return source.teacher if isinstance(source, Fixed) else None


def guidance_of(method: Method, data: Data) -> GuidanceSpec | None:
    """The guidance that a flow map learns: of its sources or teachers, at the scales that the data draw."""
    sources = (source for term in method.terms for source in (term.velocity, *term.sources.values()))
    known = (getattr(one, "guidance", None) for source in sources for one in (source, given_to(source)))
    found = next((spec for spec in known if isinstance(spec, GuidanceSpec)), None)
    if found is None or not found.is_conditioned:
        return found
    drawn = (one for one in transforms_of(data) if isinstance(one, GuidanceScales))
    return next((replace(found, scale=(one.low, one.high)) for one in drawn), found)
