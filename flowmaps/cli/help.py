"""`--help` of a command: its options in groups, wrapped to the terminal; and hints for words that do not exist."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..arguments import did_you_mean
from ..training.config import help_of

GROUPS: dict[str, tuple[str, ...]] = {
    "what": (
        "method", "methods", "method_args", "data", "data_args", "standardise", "prompts", "recipe", "reduced",
        "teacher", "start", "reflow", "reference", "base", "label",
    ),
    "how long": ("steps", "n", "step", "seconds", "budget", "batch_size", "lr", "device", "dry_run"),
    "network": ("network", "width", "depth", "output", "labels", "lora", "classes"),
    "guidance": ("guidance", "guidance_interval", "label_dropout", "dropout", "negative_prompt"),
    "steering": (
        "reward", "classifier", "beta", "inpaint", "deblur", "downsample", "noise", "steer", "particles",
    ),
    "saving": ("out", "animate", "snapshots", "resume", "cache", "json", "sample_every"),
}  # fmt: skip
"""The options of the groups of a long help, in their order. Options that no group names come under "more"."""
ADVANCED = (
    "ema", "clip", "seed", "precision", "compile", "progress_bar", "couplings", "checkpoint", "fingerprint",
    "checkpoint_every", "keep", "log_every", "accumulate", "shard", "timeout", "trackers", "lora_targets", "times",
    "moments", "component", "variant", "debug",
)  # fmt: skip
"""Options that a long help shows under --help-all alone."""
LONG = 16
"""Number of options from which a help has groups."""
WIDEST, LEFT = 100, 26
WORDS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


@dataclasses.dataclass(frozen=True)
class Option:
    """An option or a positional argument of a command, for its help.

    Args:
        name: Name of the field.
        typed: As it is typed, with its values.
        text: The help, on one line.
        positional: Whether it has no dashes.
    """

    name: str
    typed: str
    text: str
    positional: bool


def command_help(kind: type, name: str, everything: bool) -> str:
    """The help of a command.

    Args:
        kind: The dataclass of its options.
        name: Its name.
        everything: Whether to show advanced options of a long help.

    Returns:
        The text, wrapped to the terminal.
    """
    options = options_of(kind)
    positional = [option for option in options if option.positional]
    named = [option for option in options if not option.positional]
    short = len(named) < LONG
    folded = [] if short or everything else [option for option in named if option.name in ADVANCED]
    usage = " ".join(["usage: flowmaps", name, *(option.typed for option in positional), "[options]"])
    lines = [usage, "", *described(kind)]
    lines += section("", positional)
    for title, found in grouped([option for option in named if option not in folded], short).items():
        lines += section(title, found)
    if folded:
        names = ", ".join(f"--{option.name.replace('_', '-')}" for option in folded)
        lines += ["", *wrapped(f"advanced, with flowmaps {name} --help-all: {names}")]
    return "\n".join(lines)


def program_help(commands: Mapping[str, type], description: str) -> str:
    """The help of the program: its commands, each with the first line of its description."""
    rows = [Option(name, name, (kind.__doc__ or "").partition("\n")[0], True) for name, kind in commands.items()]
    lines = ["usage: flowmaps COMMAND ...", "", *wrapped(description), *section("commands", rows), ""]
    return "\n".join(
        [*lines, "flowmaps COMMAND --help lists the options of a command; flowmaps --version the versions."]
    )


def grouped(options: Sequence[Option], short: bool) -> dict[str, list[Option]]:
    """The options by the title of their group, in the order of the groups; one group for a short help."""
    if short:
        return {"options": list(options)}
    place = {name: title for title, names in GROUPS.items() for name in names}
    place |= dict.fromkeys(ADVANCED, "advanced")
    order = [name for names in GROUPS.values() for name in names]
    found: dict[str, list[Option]] = {title: [] for title in (*GROUPS, "more", "advanced")}
    for option in sorted(options, key=lambda one: order.index(one.name) if one.name in order else len(order)):
        found[place.get(option.name, "more")].append(option)
    return {title: own for title, own in found.items() if own}


def section(title: str, options: Sequence[Option]) -> list[str]:
    """The lines of a group: each option at the left, its help beside it."""
    lines = [""] + ([f"{title}:"] if title else [])
    for option in options:
        text = textwrap.wrap(option.text, columns() - LEFT, break_long_words=False, break_on_hyphens=False) or [""]
        first = f"  {option.typed}"
        lines += [f"{first:<{LEFT}}{text.pop(0)}"] if len(first) < LEFT - 1 else [first]
        lines += [f"{'':{LEFT}}{line}" for line in text]
    return lines


def described(kind: type) -> Iterator[str]:
    """The docstring of a command, wrapped; its example keeps its line."""
    for k, paragraph in enumerate((textwrap.dedent("    " + (kind.__doc__ or "")).strip()).split("\n\n")):
        yield from [""] * bool(k)
        line = " ".join(paragraph.split())
        yield from [line] if line.startswith("Example:") else wrapped(line)


def wrapped(text: str) -> list[str]:
    """A paragraph in lines of the terminal, without a break inside a word."""
    return textwrap.wrap(text, columns(), break_long_words=False, break_on_hyphens=False)


def columns() -> int:
    """Columns of a help."""
    return min(WIDEST, max(40, shutil.get_terminal_size((WIDEST, 24)).columns))


def options_of(kind: type) -> list[Option]:
    """The options of a command, in the order of their declaration."""
    texts, hints = help_of(kind), typing.get_type_hints(kind, include_extras=True)
    return [_option(field, hints[field.name], texts.get(field.name, "")) for field in dataclasses.fields(kind)]


def _option(field: dataclasses.Field[Any], hint: Any, text: str) -> Option:
    """One option, from the field that declares it."""
    marks = _marks(hint)
    plain = _plain(hint)
    given = [mark for mark in marks if getattr(mark, "metavar", None)]
    aliases = [alias for mark in marks for alias in getattr(mark, "aliases", None) or ()]
    required = field.default is dataclasses.MISSING
    if given:
        metavar = given[0].metavar
        return Option(field.name, metavar if required else f"[{metavar}]", text, True)
    dashed = field.name.replace("_", "-")
    if plain is bool:
        typed = f"--{dashed}, --no-{dashed}" if field.default else f"--{dashed}"
    else:
        typed = " ".join(filter(None, [", ".join([f"--{dashed}", *aliases]), _values(plain)]))
    return Option(field.name, typed, f"{text} {_default(field)}".strip(), False)


def _default(field: dataclasses.Field[Any]) -> str:
    """The default of an option in words."""
    value = field.default
    if value is dataclasses.MISSING:
        return "(required)"
    if isinstance(value, bool):
        return f"(default: {'yes' if value else 'no'})"
    return f"(default: {' '.join(map(str, value)) or 'none' if isinstance(value, tuple) else value})"


def _marks(hint: Any) -> list[Any]:
    """The annotations of a type, also inside of tyro's own marks."""
    return [*getattr(hint, "__metadata__", ()), *(m for part in typing.get_args(hint)[:1] for m in _marks(part))]


def _plain(hint: Any) -> Any:
    """A type without annotations and without None."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(_plain(part) for part in typing.get_args(hint) if part is not type(None))
    return hint


def _values(hint: Any) -> str:
    """The values of an option, as they are typed."""
    if typing.get_origin(hint) is Literal:
        return f"{{{','.join(map(str, typing.get_args(hint)))}}}"
    parts = typing.get_args(hint)
    if parts and Ellipsis not in parts:
        return " ".join(_values(_plain(part)) for part in parts)
    return f"[{WORDS.get(_plain(parts[0]), 'VALUE')} ...]" if parts else WORDS.get(hint, "VALUE")


def unknown_option(word: str, kind: type, name: str, others: Mapping[str, Sequence[str]]) -> str:
    """A sentence about an option that a command does not have; "" if it has it.

    Args:
        word: The word, such as --stepps or --steps=3.
        kind: The dataclass of the options of the command.
        name: The name of the command.
        others: Names that are no options but values of one: by that option, such as "data_args".

    Returns:
        The sentence, with the options that are near.
    """
    typed = word.partition("=")[0].removeprefix("--").replace("-", "_")
    names = [field.name for field in dataclasses.fields(kind)]
    if typed in (*names, "help", "help_all") or typed.removeprefix("no_") in names:
        return ""
    for option, known in others.items():
        if option not in names:
            continue
        if typed in known or typed.removeprefix("no_") in known:
            value = f"{typed}=VALUE" if typed in known else f"{typed.removeprefix('no_')}=False"
            return f"{name} has no option --{typed.replace('_', '-')}: write --{option.replace('_', '-')} {value}"
    near = did_you_mean(typed, names).replace("_", "-")
    for other in names:
        near = near.replace(f" {other.replace('_', '-')}", f" --{other.replace('_', '-')}")
    return f"{name} has no option --{typed.replace('_', '-')}{near}; flowmaps {name} --help lists its options"
