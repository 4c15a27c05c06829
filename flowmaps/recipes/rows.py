"""The row of a method: its row of the landscape, or one that is made for a method of your own."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .. import steering
from ..arguments import shown
from ..method.method import Method
from ..methods import Row
from ..methods.beside import beside_named
from ..methods.landscape import known_rows, row_named
from ..methods.papers import Paper
from ..methods.row import TEACHER

MethodLike = str | Row | Method | Callable[..., Method]
"""A method: its name, its row of the landscape, its function (also one of your own), or the method itself."""
OWN = "own"
"""Rule and learning setting of a method without a row of the landscape."""
NO_PAPER = Paper("own", ("a method of your own",), "", 0)
STEERING = frozenset(name for name in steering.__all__ if callable(getattr(steering, name)) and name.islower())
"""Names of the functions of steering, which are no methods of training."""
RESERVED = ("teacher", "reference", "comparison", "table", "report")
"""Names that the folder of a comparison uses otherwise."""


@dataclass(frozen=True, kw_only=True)
class OwnRow(Row):
    """The row of a method of your own: its cost is not counted, and it has no paper and no equation.

    Args:
        taught: Whether the method is already made, with its teacher.
    """

    taught: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether `build` must get teacher=."""
        return not self.taught and self.learning == TEACHER

    @property
    def reference(self) -> str:
        """The first words of the missing reference."""
        return self.paper.authors[0] if self.paper is NO_PAPER else self.paper.short

    @property
    def bibtex(self) -> str:
        """The paper as a BibTeX entry; "" without a paper."""
        return "" if self.paper is NO_PAPER else self.paper.bibtex


@dataclass(frozen=True)
class Copies:
    """Makes copies of a method, so that no training changes the given one.

    Args:
        method: The method.
    """

    method: Method

    def __call__(self) -> Method:
        """A copy of the method."""
        return copy.deepcopy(self.method)


def row_of(method: MethodLike) -> Row:
    """Find the row of a method, or make one for a method that has none.

    Args:
        method: Its name, its row, its function, or the method itself.

    Returns:
        The row of the landscape, or the `row` of a function (`methods.landscape_row`), or an `OwnRow`.

    Raises:
        TypeError: It is something else.
        ValueError: The name is unknown; the message has the closest names.
    """
    if isinstance(method, Row):
        return method
    if isinstance(method, Method):
        return _of_object(method)
    if isinstance(method, str):
        return _of_name(method)
    if not callable(method):
        raise TypeError(f"a method is a name such as 'imf', a function of fm.methods or a Method, got {shown(method)}")
    return _of_function(method)


def rows_of(methods: Sequence[MethodLike] | Mapping[str, MethodLike]) -> list[Row]:
    """Find the rows of several methods, each once.

    Args:
        methods: The methods; by name, to compare variants of the same method.

    Returns:
        The rows, with distinct names.

    Raises:
        TypeError: They are no list.
        ValueError: A method is unknown, there is none, two have the same name, or a name cannot be a folder.
    """
    if isinstance(methods, Mapping):
        rows = [replace(row_of(method), name=name) for name, method in methods.items()]
    elif isinstance(methods, list | tuple):
        rows = list(dict.fromkeys(map(row_of, methods)))
    else:
        raise TypeError(f"`methods` must be a list of methods, got {shown(methods)}")
    if not rows:
        raise ValueError("`methods` needs at least one name")
    names = [row.name for row in rows]
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name) or name in RESERVED:
            raise ValueError(
                f"the name of a method is the name of its run folder, and {name!r} cannot be one: give names, "
                "`methods={'mine': method}`"
            )
        if names.count(name) > 1:
            raise ValueError(f"two methods have the name {name}: give names, `methods={{'{name}_a': ..., ...}}`")
    return rows


def unbound(build: Callable[..., Method]) -> Callable[..., Method]:
    """The function of a method without the arguments that are bound to it."""
    return build.func if isinstance(build, functools.partial) else build


def takes_teacher(build: Callable[..., Any]) -> bool:
    """Whether the function of a method has an argument for a teacher."""
    return "teacher" in inspect.signature(build).parameters


def _of_name(name: str) -> Row:
    """The row of the landscape with this name."""
    if ":" in name:
        raise ValueError(f"unknown method {name!r}: in Python, import the function and give it instead of its name")
    if (record := beside_named(name)) is not None:
        raise ValueError(record.refusal)
    if name.replace("-", "_") in STEERING:
        place = f"fm.steering.{name.replace('-', '_')} (docs/steering.md)"
        raise ValueError(f"{name} steers the samples of a trained map and trains nothing: {place}")
    try:
        return row_named(name)
    except ValueError as error:
        raise ValueError(f"{error}, and a function of your own by its module, such as my_module:steady") from None


def _of_object(method: Method) -> Row:
    """The row of a method that is made: its arguments count, and each use gets a copy."""
    known = next((row for row in known_rows() if row.name == method.name), None)
    about = {} if known is None else {field.name: getattr(known, field.name) for field in fields(Row)}
    return OwnRow(**{**_unknown(method.name, OWN), **about, "build": Copies(method)}, taught=True)


def _of_function(build: Callable[..., Method]) -> Row:
    """The row that a function carries, with the arguments that are bound; else one for a function of your own."""
    if isinstance(build, Copies):
        return _of_object(build.method)
    inner = unbound(build)
    row = getattr(inner, "row", None)
    if isinstance(row, Row):
        return row if build in (inner, row.build) else replace(row, build=build)
    needed = takes_teacher(build) and inspect.signature(build).parameters["teacher"].default is inspect.Parameter.empty
    name = getattr(inner, "__name__", type(inner).__name__)
    return OwnRow(**_unknown(name, TEACHER if needed else OWN), build=build)


def _unknown(name: str, learning: str) -> dict[str, Any]:
    """The fields of a row about which nothing is known."""
    return {
        "name": name, "rule": OWN, "learning": learning, "notes": "", "cost": math.nan, "shared": math.nan,
        "paper": NO_PAPER, "equation": "", "gradient": "",
    }  # fmt: skip
