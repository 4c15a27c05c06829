"""The record of a variant: a row of its own, which names the method and says which settings differ."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from ...arguments import checked
from ...method.method import Method
from ...method.term import as_drawn
from ...path import Path, linear
from ...velocity import Pair
from ..row import Build, Row


@dataclass(frozen=True, kw_only=True)
class Variant(Row):
    """A method with the settings of its paper or of the paper's code.

    Args:
        of: Name of the method.
        setting: The origin of the settings, in a few words.
        sets: The settings that differ from the method's defaults, in words.
        levels: Whether its times are noise levels, as times of the linear path. It refuses other paths.
    """

    of: str
    setting: str
    sets: str
    levels: bool = False


@dataclass(frozen=True)
class OnPath:
    """Coupling that refuses a flow map on another path than the times are for.

    Args:
        name: Name of the variant.
        of: Name of its method.
        path: The path.
        then: The coupling of the term.
    """

    name: str
    of: str
    path: Path
    then: Callable[[Pair], Pair] = as_drawn

    def __call__(self, pair: Pair) -> Pair:
        """Return the coupled pair. Raises ValueError if it is on another path."""
        if pair.path != self.path:
            raise ValueError(
                f"{self.name} has noise levels as times of the path {self.path}, and this flow map is on {pair.path}, "
                f"where they are other levels: take {self.of}"
            )
        return self.then(pair)


def variant(base: Callable[..., Method], *, setting: str, sets: str, **differing: Any) -> Callable[[Build], Build]:
    """Decorator that gives a variant its record, `function.row`, and its name to the methods that it makes.

    Args:
        base: The function of the method.
        setting: The origin of the settings, in a few words.
        sets: The settings that differ from the method's defaults, in words.
        **differing: Fields of the row that differ from the method's, such as `cost`; `sampled` and `levels`.
    """
    of: Row = base.row  # type: ignore[attr-defined]
    known = {field.name: getattr(of, field.name) for field in fields(Row)}
    known |= {"notes": sets, "published_cost": None, "after": ""} | differing

    def attach(function: Build) -> Build:
        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Method:
            made = function(*args, **kwargs)
            terms = made.terms
            if build.row.levels:
                names = function.__name__, of.name
                terms = tuple(replace(term, couple=OnPath(*names, linear, term.couple)) for term in terms)
            return Method(*terms, name=function.__name__)

        build: Any = checked(named)
        about = {**known, "name": function.__name__, "build": build}
        build.row = Variant(**about, of=of.name, setting=setting, sets=sets)
        return build

    return attach
