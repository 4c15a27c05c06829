"""Teachers that a method was given: they are no part of its weights, and still belong on its device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

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


def guidance_of(method: Method) -> str | None:
    """What guidance a flow map learns from a method, in words: that of its sources or teachers."""
    sources = (source for term in method.terms for source in (term.velocity, *term.sources.values()))
    said = (getattr(one, "guided", None) for source in sources for one in (source, given_to(source)))
    return next((words for words in said if isinstance(words, str)), None)
