"""Parsing of options: name=value, functions written as in Python, scales and times of guidance, budgets."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import consistency, derivative, weight
from ..arguments import did_you_mean
from ..experiments.build import check_method_arguments
from ..experiments.guide import scale_range, time_interval
from ..recipes.by_data import METHOD
from ..recipes.rows import row_of
from ..times import samplers as times
from .own_method import method_named
from .tables import as_options

HOMES = {"times": times, "weight": weight, "split": consistency, "derivative": derivative}
"""The module with the functions for a parameter of this name."""
MADE = ("Times", "Weight", "Learned", "Derivative")
"""Return annotations of functions of these modules that make a function."""
PLAIN = (bool, int, float, str, tuple, list)


def method_arguments(build: Callable[..., Any], pairs: Sequence[str]) -> dict[str, Any]:
    """Read arguments of a method.

    Args:
        build: The function of the method.
        pairs: Texts name=value.

    Returns:
        Keyword arguments for `build`.

    Raises:
        ValueError: A name is not an argument of the function, or a value has the wrong type.
    """
    texts = dict(split_pairs(pairs))
    check_method_arguments(build, texts)
    annotations = annotations_of(build)
    found = {}
    for name, text in texts.items():
        found[name] = (
            function(HOMES[name], text) if name in HOMES else checked(name, literal(text), annotations.get(name, Any))
        )
    return found


def annotations_of(build: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's arguments by name, as far as it has any that can be read."""
    try:
        parameters = inspect.signature(build, eval_str=True).parameters.values()
    except (NameError, AttributeError, SyntaxError):  # names that only a type checker sees
        return {}
    return {item.name: item.annotation for item in parameters if item.annotation is not item.empty}


def keywords(options: Any, *without: str) -> dict[str, Any]:
    """The options of a command as keyword arguments of its experiment, with their texts parsed.

    Args:
        options: The dataclass of the command.
        *without: Fields to leave out, beside `debug` and `json`.

    Returns:
        The value of each field by name.

    Raises:
        ValueError: A text cannot be parsed.
    """
    found = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    found = {name: value for name, value in found.items() if name not in ("debug", "json", *without)}
    if isinstance(found.get("guidance"), str):
        found["guidance"] = scales_of(found["guidance"])
    if found.get("guidance_interval") is not None:
        found["guidance_interval"] = interval_of(found["guidance_interval"])
    if "data_args" in found:
        found["data_args"] = data_arguments(found["data_args"])
        if not found.pop("standardise", True):
            found["data_args"].setdefault("standardise", False)
    if found.get("method") is not None:
        found["method"] = method_named(found["method"])
    if "method_args" in found:
        pairs = found["method_args"]
        found["method_args"] = method_arguments(row_of(found["method"] or METHOD).build, pairs) if pairs else None
    return found


def command_of(name: str, options: Any) -> str:
    """The command line of options, without those that have their defaults.

    Args:
        name: The name of the command.
        options: The dataclass of its options; its fields `run` and `data` are typed without their names.

    Returns:
        The line, quoted for a shell.
    """
    words, positional = ["flowmaps", name], ("run", "data")
    words += [str(getattr(options, field)) for field in positional if getattr(options, field, None) is not None]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in (*positional, "debug", "json") or value == field.default:
            continue
        typed = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(typed if value else f"--no-{typed[2:]}")
            continue
        words += [typed, *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def data_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments for `data.load`, which checks them, from texts name=value."""
    return {name: literal(text) for name, text in split_pairs(pairs)}


def split_pairs(pairs: Sequence[str]) -> Iterable[tuple[str, str]]:
    """name=value -> (name, value). Raises ValueError without an equals sign."""
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"expected name=value, got {pair!r}")
        yield name.strip().replace("-", "_"), text.strip()


def scales_of(text: str) -> tuple[float, float]:
    """2 -> (2, 2), 1:8 -> (1, 8). Raises ValueError for another text and for scales that are not 0 < low <= high."""
    numbers = _numbers("--guidance", text, "a scale such as 2, or a range such as 1:8", least=1)
    return _naming_option("guidance", lambda: scale_range(numbers))


def interval_of(text: str | None) -> tuple[float, float]:
    """0.2:0.8 -> (0.2, 0.8), None -> (0, 1). Raises ValueError for another text and for times outside [0, 1]."""
    if text is None:
        return time_interval(None)
    numbers = _numbers("--guidance-interval", text, "two times such as 0.2:0.8", least=2)
    return _naming_option("guidance_interval", lambda: time_interval(numbers))


def _naming_option(name: str, check: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The result of a check; its error names the option instead of the argument."""
    try:
        return check()
    except ValueError as error:
        raise ValueError(as_options(str(error), (name,))) from None


def _numbers(option: str, text: str, expected: str, least: int) -> tuple[float, float]:
    """Parse one or two numbers with a colon between them; a single number is returned twice."""
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not least <= len(numbers) <= 2:
        raise ValueError(f"{option} is {expected}, got {text!r}")
    return numbers[0], numbers[-1]


def seconds_of(budget: str) -> float:
    """30s, 2m, 1.5h, 1h30m -> seconds. Raises ValueError for any other text and for zero."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", budget)
    seconds = sum(float(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != budget or not seconds:
        raise ValueError(f"a budget is a time such as 30s, 2m or 1h30m, got {budget!r}")
    return seconds


def literal(text: str) -> Any:
    """The value of a Python literal, or of true, false and none in any case; any other text is returned unchanged."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def checked(name: str, value: Any, annotation: Any) -> Any:
    """Check a value against the annotation of its parameter.

    Args:
        name: Name of the parameter.
        value: The value.
        annotation: Its annotation.

    Returns:
        The value; a whole number becomes a float if the annotation is float.

    Raises:
        ValueError: The value has another type.
    """
    if annotation is Any:
        return value
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
    """Read `name` or `name(1, key=2)`: a function of a module of this package, or its result.

    Nothing else is evaluated. A function that makes a rule, a weight or times is also called without parentheses:
    `adaptive` is `adaptive()`.

    Args:
        home: The module.
        text: The text.

    Returns:
        The function, or its result.

    Raises:
        ValueError: The module has no such function, or an argument is not a literal.
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
