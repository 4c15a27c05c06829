"""Checks of values from files against type annotations, before anything is called with them."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from .names import public_name

LARGEST = 2**31 - 1
"""Largest whole number in a description, in either direction."""
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 3, 100, 100


def check_arguments(thing: Callable[..., Any], name: str, arguments: Any, where: str, *, given: int = 0) -> None:
    """Check the arguments of a class or function against the annotations of its parameters.

    Args:
        thing: The class or function.
        name: Its public name.
        arguments: The arguments by name; parts of them are built already.
        where: Place of the arguments in their file, for messages.
        given: Number of positional arguments that do not come from the file.

    Raises:
        ValueError: If an argument is missing, unknown, or of another type.
    """
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{where}: the arguments of {name} must be a JSON object, got {shown(arguments)}")
    signature = inspect.signature(thing)
    try:
        signature.bind(*[None] * given, **arguments)
    except TypeError as error:
        raise ValueError(f"{where}: these arguments do not fit {name}: {error}") from None
    hints = _hints(thing)
    for key, value in arguments.items():
        if not fits(value, hints[key]):
            expected = str(signature.parameters[key].annotation)
            raise ValueError(f"{where}.{key}: {name} takes {key} as {expected}, got {shown(value)}")


@functools.cache
def _hints(thing: Any) -> dict[str, Any]:
    """Types of the parameters of a class or function, by name."""
    is_plain = isinstance(thing, type) and not dataclasses.is_dataclass(thing)
    return typing.get_type_hints(thing.__init__ if is_plain else thing)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from a file has a type.

    Args:
        value: JSON, or an object that was built from a description. Lists stand for tuples, whole numbers for floats.
        hint: A type, such as an evaluated annotation. `Any` stands for plain JSON.

    Returns:
        Whether it fits. Whole numbers beyond `LARGEST` fit nothing.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if hint is Any:
        return _is_plain(value)
    if hint in (None, types.NoneType):
        return value is None
    if hint is float:
        return isinstance(value, float) or _is_whole(value)
    if hint is int:
        return _is_whole(value)
    kind = origin or hint
    if kind is tuple:
        return isinstance(value, (list, tuple)) and _fits_tuple(value, parts)
    if kind in (list, collections.abc.Sequence):
        return isinstance(value, (list, tuple)) and all(fits(item, parts[0] if parts else Any) for item in value)
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, dict) and _fits_mapping(value, parts)
    if kind is collections.abc.Callable:
        return _fits_callable(value, parts)
    return isinstance(kind, type) and isinstance(value, kind) and (kind is not object or _is_plain(value))


def mismatch(value: Any, hint: Any, place: str) -> str | None:
    """Find the first difference of a JSON value from a type, such as a `TypedDict`.

    Args:
        value: The value.
        hint: The type. Objects may have more entries than a `TypedDict`; `Any` is not checked.
        place: Place of the value in its file; "" for the whole file.

    Returns:
        A clause that names the entry, its type and its value; None if the value fits.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return None
    if origin is typing.NotRequired:
        return mismatch(value, parts[0], place)
    if typing.is_typeddict(hint) and isinstance(value, dict):
        hints, inside = _entries_of(hint), f"{place}." if place else ""
        lost = [
            key for key, of in hints.items() if typing.get_origin(of) is not typing.NotRequired and key not in value
        ]
        if lost:
            return f"the entry {inside}{lost[0]} is missing"
        found = (mismatch(value[key], hints[key], f"{inside}{key}") for key in hints if key in value)
        return next(filter(None, found), None)
    if origin is list and isinstance(value, list):
        found = (mismatch(item, parts[0], f"{place}[{index}]") for index, item in enumerate(value))
        return next(filter(None, found), None)
    if not typing.is_typeddict(hint) and fits(value, hint):
        return None
    expected = "a JSON object" if typing.is_typeddict(hint) else written(hint)
    return f"{place or 'the document'} must be {expected}, got {shown(value)}"


@functools.cache
def _entries_of(kind: Any) -> dict[str, Any]:
    """The types of the entries of a `TypedDict`."""
    return typing.get_type_hints(kind, include_extras=True)


def written(hint: Any) -> str:
    """Write a type as an annotation."""
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return text.replace("typing.", "").replace("collections.abc.", "")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_plain(value: Any) -> bool:
    """Whether a value is plain JSON, without objects that were built."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return _fits_mapping(value, (str, Any))
    return value is None or isinstance(value, (bool, float, str)) or _is_whole(value)


def _fits_tuple(value: Sequence[Any], parts: Sequence[Any]) -> bool:
    if len(parts) == 2 and parts[1] is Ellipsis:
        return all(fits(item, parts[0]) for item in value)
    return not parts or (len(value) == len(parts) and all(map(fits, value, parts)))


def _fits_mapping(value: Mapping[Any, Any], parts: Sequence[Any]) -> bool:
    key, item = parts or (str, Any)
    return all(fits(name, key) and fits(found, item) for name, found in value.items())


def _fits_callable(value: Any, parts: Sequence[Any]) -> bool:
    """Whether a value can be called with arguments of these types, and returns this type."""
    if isinstance(value, type) or not callable(value):
        return False
    function = value if inspect.isfunction(value) else type(value).forward if isinstance(value, nn.Module) else None
    function = function or type(value).__call__
    hints = typing.get_type_hints(function)
    known = [item for item in inspect.signature(function).parameters.values() if item.kind is not item.KEYWORD_ONLY]
    known = known if function is value else known[1:]
    if not parts or parts[0] is Ellipsis:
        return True
    wanted, returned = parts
    needed = [item for item in known if item.default is item.empty]
    if not len(needed) <= len(wanted) <= len(known):
        return False
    pairs = [(hints.get(item.name, Any), hint) for item, hint in zip(known, wanted, strict=False)]
    return all(_agree(*pair) for pair in [*pairs, (hints.get("return", Any), returned)])


def _agree(one: Any, other: Any) -> bool:
    """Whether a value can have both types, as far as their classes tell."""
    one, other = typing.get_origin(one) or one, typing.get_origin(other) or other
    if not (isinstance(one, type) and isinstance(other, type)):
        return True
    return issubclass(one, other) or issubclass(other, one)


def _has_objects(value: Any) -> bool:
    """Whether a list or dict holds objects that were built."""
    if isinstance(value, (list, tuple, dict)):
        return any(map(_has_objects, value.values() if isinstance(value, dict) else value))
    return not (value is None or isinstance(value, (bool, int, float, str)))


def shown(value: Any) -> str:
    """Describe a value from a file for a message, in a few words."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return _short.repr(value)
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of other parts" if _has_objects(value) else _short.repr(value)
    if inspect.isfunction(value):
        return f"the function {public_name(value)}"
    return f"a {public_name(type(value))}"
