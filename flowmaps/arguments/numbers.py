"""Checks of numbers.

True and False are not numbers here, and neither are tensors.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import reprlib
import textwrap
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
SEEDS = 2**64
"""Number of seeds of torch's generators."""
MOST_VALUES = 2**28
"""Largest number of values in a row of data."""
MOST_CLASSES = 2**24
"""Largest number of classes."""
MOST_WIDTH = 2**20
"""Largest width of a layer."""
MOST_LAYERS = 2**14
"""Largest number of layers of one kind."""


def at_least(least: int, /, **arguments: Any) -> None:
    """Check that arguments are whole numbers, not below a bound.

    Args:
        least: The bound.
        **arguments: The values by name.

    Raises:
        TypeError: A value is not a whole number.
        ValueError: A value is below the bound.
    """
    for name, value in arguments.items():
        whole(name, value)
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def between(least: int, most: int, /, **arguments: Any) -> None:
    """Check that arguments are whole numbers from `least` to `most`.

    Args:
        least: The least value.
        most: The largest value.
        **arguments: The values by name.

    Raises:
        TypeError: A value is not a whole number.
        ValueError: A value is outside these bounds.
    """
    for name, value in arguments.items():
        whole(name, value)
        if not least <= value <= most:
            raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value}")


def whole(name: str, value: Any) -> None:
    """Raise TypeError unless a value is a whole number; `name` is its name in the message."""
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")


def finite(**arguments: Any) -> None:
    """Check that arguments are finite numbers.

    Args:
        **arguments: The values by name.

    Raises:
        TypeError: A value is not a real number.
        ValueError: A value is NaN or infinite.
    """
    for name, value in arguments.items():
        if type(value) is not float and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
            raise TypeError(f"{name} must be a number, got {shown(value)}")
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")


def positive(**arguments: Any) -> None:
    """Check that arguments are finite numbers above 0.

    Args:
        **arguments: The values by name.

    Raises:
        TypeError: A value is not a real number.
        ValueError: A value is not positive, or not finite.
    """
    for name, value in arguments.items():
        finite(**{name: value})
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def within(low: float, high: float, /, **arguments: Any) -> None:
    """Check that arguments are numbers in [low, high].

    Args:
        low: The least value.
        high: The largest value; it may be infinite.
        **arguments: The values by name.

    Raises:
        TypeError: A value is not a real number.
        ValueError: A value is outside the interval, or not finite.
    """
    for name, value in arguments.items():
        finite(**{name: value})
        if not low <= value <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
            raise ValueError(f"{name} must be {bounds}, got {value}")


def truth(**arguments: Any) -> None:
    """Check that arguments are True or False.

    Args:
        **arguments: The values by name.

    Raises:
        TypeError: A value is something else.
    """
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {shown(value)}")


def check_seed(seed: Any, name: str = "seed") -> None:
    """Check a seed: a whole number from 0 to 2^64 - 1.

    Args:
        seed: The seed.
        name: Its name in the message.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is outside these bounds.
    """
    whole(name, seed)
    if not 0 <= seed < SEEDS:
        raise ValueError(f"{name} must be a whole number from 0 to 2^64 - 1, got {seed}")


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None, for a check of optional arguments: `at_least(1, **given(width=width))`."""
    return {name: value for name, value in arguments.items() if value is not None}


def numbered(**arguments: Any) -> dict[str, Any]:
    """The entries of sequences, for a check of each: `at_least(1, **numbered(jumps=(1, 2)))` names `jumps[1]`.

    Args:
        **arguments: The sequences by name.

    Returns:
        The entries by name.

    Raises:
        TypeError: A value is not a list or tuple.
    """
    found = {}
    for name, values in arguments.items():
        if not isinstance(values, list | tuple | range):
            raise TypeError(f"{name} must be a list or a tuple, got {shown(values)}")
        found.update({f"{name}[{place}]": value for place, value in enumerate(values)})
    return found


def checked(function: F) -> F:
    """Check the numbers among the arguments of a function against their annotations (decorator).

    An argument that is annotated `int` must be a whole number, `float` a finite number, `bool` True or False. In a
    union with other types, a number is checked like this; other values are left to the function.

    Args:
        function: The function, or the `__init__` of a class.

    Returns:
        The function with checks. It raises TypeError for another type, and ValueError for a number that is not finite.
    """
    signature = inspect.signature(function)
    kinds: dict[str, tuple[Any, ...]] = {}

    @functools.wraps(function)
    def checking(*args: Any, **kwargs: Any) -> Any:
        if not kinds:
            hints = typing.get_type_hints(function)
            kinds.update({name: _kinds(hints.get(name, Any)) for name in signature.parameters})
        try:
            bound = signature.bind(*args, **kwargs).arguments
        except TypeError:  # the function says it with its name
            return function(*args, **kwargs)
        for name, value in bound.items():
            _check(name, value, kinds[name])
        return function(*args, **kwargs)

    return typing.cast(F, checking)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a union; the type itself for other types."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _check(name: str, value: Any, kinds: tuple[Any, ...]) -> None:
    """Check a value against the number types among its kinds."""
    known = [kind for kind in kinds if kind in (bool, int, float)]
    others = [kind for kind in kinds if kind not in known]
    if not known or (value is None and types.NoneType in others) or (isinstance(value, bool) and bool in known):
        return
    if not isinstance(value, bool | numbers.Number) and any(kind is not types.NoneType for kind in others):
        return
    if float in known:
        finite(**{name: value})
    elif int in known:
        whole(name, value)
    else:
        truth(**{name: value})


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def shown(value: Any) -> str:
    """A value for a message: a short text with its type, unless it is a plain number or a string."""
    if callable(value) and not isinstance(value, type):  # a module, a function
        return f"the function {value.__name__}" if hasattr(value, "__name__") else f"a {type(value).__name__}"
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance of it"
    text = textwrap.shorten(_short.repr(value), 80, placeholder=" ...")
    return text if value is None or type(value) in (bool, int, float, str) else f"{text} ({type(value).__name__})"
