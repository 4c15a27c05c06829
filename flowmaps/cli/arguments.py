"""Arguments given as name=value: numbers and words, and the functions of this package written as in Python."""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import consistency, derivative, weight
from ..data.check import did_you_mean
from ..times import samplers as times

HOMES = {"times": times, "weight": weight, "split": consistency, "derivative": derivative}
"""Where the functions are found that a parameter of this name takes."""
MADE = ("Times", "Weight", "Learned", "Derivative")
"""What functions of these modules return that make a function."""
PLAIN = (bool, int, float, str, tuple, list)


def method_arguments(build: Callable[..., Any], pairs: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments for `build` from texts name=value. Raises ValueError for names that it does not have, with the
    closest ones, and for values of another type.
    """
    parameters = inspect.signature(build, eval_str=True).parameters
    known = [name for name in parameters if name != "teacher"]
    found = {}
    for name, text in split_pairs(pairs):
        if name not in known:
            raise ValueError(
                f"{build.__name__} has no argument {name!r}{did_you_mean(name, known)}; "
                f"it has {', '.join(known) or 'none'}"
            )
        found[name] = (
            function(HOMES[name], text) if name in HOMES else checked(name, literal(text), parameters[name].annotation)
        )
    return found


def data_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments for `data.load`, which checks them."""
    return {name: literal(text) for name, text in split_pairs(pairs)}


def split_pairs(pairs: Sequence[str]) -> Iterable[tuple[str, str]]:
    """name=value -> (name, value). Raises ValueError without an equals sign."""
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"expected name=value, got {pair!r}")
        yield name.strip().replace("-", "_"), text.strip()


def seconds_of(budget: str) -> float:
    """30s, 2m, 1.5h, 1h30m -> seconds. Raises ValueError for another text, and for no time at all."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", budget)
    seconds = sum(float(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != budget or not seconds:
        raise ValueError(f"a budget is a time such as 30s, 2m or 1h30m, got {budget!r}")
    return seconds


def literal(text: str) -> Any:
    """A Python literal; true, false and none in any case; anything else is the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def checked(name: str, value: Any, annotation: Any) -> Any:
    """The value, if the annotation of its parameter allows it. Raises ValueError otherwise."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    allowed = [typing.get_origin(kind) or kind for kind in (typing.get_args(annotation) if union else [annotation])]
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if value is None and type(None) in allowed or type(value) in allowed:
        return value
    plain = [kind.__name__ for kind in allowed if kind in PLAIN]
    raise ValueError(
        f"{name} must be {' or '.join(plain)}, got {value!r}" if plain else f"{name} can only be set from Python"
    )


def function(home: types.ModuleType, text: str) -> Any:
    """`name` or `name(1, key=2)`: a function of a module of this package, or what it returns. Nothing else is
    evaluated. A function that makes one of these is called without its parentheses too: `adaptive` is `adaptive()`.

    Raises ValueError for an unknown name, with the closest ones, and for arguments that are no literals.
    """
    try:
        node = ast.parse(text, mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        name = ast.unparse(call.func if call else node)
        args = [ast.literal_eval(item) for item in call.args] if call else []
        keywords = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords} if call else {}
    except (SyntaxError, ValueError):
        raise ValueError(
            f"expected a function of {home.__name__}, such as name or name(1.0, key=2), got {text!r}"
        ) from None
    known = [
        key
        for key, item in vars(home).items()
        if inspect.isfunction(item) and f"{item.__module__}.".startswith(f"{home.__name__}.") and key[0] != "_"
    ]
    if name not in known:
        raise ValueError(
            f"{home.__name__} has no function {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
        )
    found = getattr(home, name)
    return found(*args, **keywords) if call or found.__annotations__["return"] in MADE else found
