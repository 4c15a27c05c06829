"""The record of a variant: a row of its own, which names the method and says which settings differ."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from ...arguments import checked
from ...method.method import Method
from ..row import Build, Row


@dataclass(frozen=True, kw_only=True)
class Variant(Row):
    """A method with the settings of its paper or of the paper's code.

    Args:
        of: Name of the method.
        setting: The origin of the settings, in a few words.
        sets: The settings that differ from the method's defaults, in words.
        sampled: How its map is sampled, if that differs from the method's; "" otherwise.
    """

    of: str
    setting: str
    sets: str
    sampled: str = ""


def variant(base: Callable[..., Method], *, setting: str, sets: str, **differing: Any) -> Callable[[Build], Build]:
    """Decorator that gives a variant its record, `function.row`, and its name to the methods that it makes.

    Args:
        base: The function of the method.
        setting: The origin of the settings, in a few words.
        sets: The settings that differ from the method's defaults, in words.
        **differing: Fields of the row that differ from the method's, such as `cost`, and `sampled`.
    """
    of: Row = base.row  # type: ignore[attr-defined]
    known = {field.name: getattr(of, field.name) for field in fields(Row)}
    known |= {"notes": sets, "published_cost": None, "after": ""} | differing

    def attach(function: Build) -> Build:
        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Method:
            method = function(*args, **kwargs)
            method.name = function.__name__
            return method

        build: Any = checked(named)
        about = {**known, "name": function.__name__, "build": build}
        build.row = Variant(**about, of=of.name, setting=setting, sets=sets)
        return build

    return attach
