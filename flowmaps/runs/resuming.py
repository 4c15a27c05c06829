"""Comparison of a run with the current configuration, before it is resumed: refusals and warnings."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.class_names import listed
from ..data.folder import folder_order_changed
from ..serialise import NAMES, describe, differences, find, shown
from .fingerprint import CONTENTS
from .folder import Run, read_config

COMPARED = ("data", "method", "training", "flow")
"""Parts of config.json that must be equal in a resumed run."""
SAID = frozenset(("modified", "code_sha256", "globals", "attributes"))
"""Entries whose differences cause a warning: times of change of files, code and numbers outside of settings."""
PLACES = (("data", "name"), ("data", "recipe", "name_or_path"))
"""Entries that may be paths. Another path causes a warning if the contents are the same."""


def existing(out: Path, config: Mapping[str, Any], names: Sequence[str] = COMPARED) -> Run:
    """Return the run in a folder, to resume it.

    Settings and contents (data, labels, conditions, teachers) must be equal. A warning tells of code, of times of
    change of files and of paths that differ. Contents are compared as far as both configurations have them: not with a
    run of version 0.1.0, and not if the setting `fingerprint` is "off".

    Args:
        out: The run folder.
        config: The current configuration, as returned by `configuration`.
        names: The parts to compare, if the run has them.

    Returns:
        The paths of the run.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run has another configuration; it lists the differences, each with the values then and now.
    """
    refused, said, settings = compare(read_config(out), config, names)
    if refused:
        contents = "" if settings else '. To compare the settings alone, pass fingerprint="off" (--fingerprint off)'
        raise ValueError(
            f"the run in {out} was started with another configuration and cannot be resumed with this one: "
            f"{shown(refused)}. Use the original arguments, or start a new run in another folder (--out){contents}"
        )
    if said:
        warnings.warn(
            f"the run in {out} goes on although this has changed: {shown(said)}. Its settings are the same, and all "
            'contents that are compared; a run with fingerprint="whole" compares every byte',
            stacklevel=3,
        )
    return Run(out)


def compare(
    before: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    """Compare two configurations.

    Args:
        before: The configuration of the run.
        now: The current one.
        names: The parts to compare.

    Returns:
        The differences that refuse, the ones that are only said, and among the first the ones of settings.
    """
    now = json.loads(json.dumps(now))
    before = _completed(before, now)
    reordered = _reordered(before, now)
    if "class_names" not in before.get("data", {}):
        now = {**now, "data": {name: item for name, item in now.get("data", {}).items() if name != "class_names"}}
    left = _not_compared(before, now)
    parts = [name for name in names if name in before]
    if "optimizers" in parts:
        options, current = (one["optimizers"] for one in (before, now))
        before = {**before, "optimizers": _shared(options, current)}
        now = {**now, "optimizers": _shared(current, options)}

    def found(without: frozenset[str], then: Mapping[str, Any] = before) -> list[str]:
        pairs = [(_without(then[name], without), _without(now[name], without), name) for name in parts]
        return [line for pair in pairs for line in differences(*pair)]

    everything = found(left)
    same_places = _moved(before, now) if _same_contents(before, now, left | SAID) else before
    refused = reordered + found(left | SAID, same_places)
    settings = reordered + found(left | SAID | CONTENTS | {"contents"}, same_places)
    return refused, [line for line in everything if line not in refused], settings


def _completed(then: Any, now: Any) -> Any:
    """Give parts of flow maps that an earlier version wrote the defaults of the arguments that came later."""
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [_completed(*pair) for pair in zip(then, now, strict=True)]
    if not (isinstance(then, Mapping) and isinstance(now, Mapping)):
        return then
    found = {name: _completed(item, now.get(name)) for name, item in then.items()}
    kind, arguments = then.get("type"), now.get("arguments")
    if kind in NAMES and kind == now.get("type") and isinstance(arguments, Mapping):
        later = arguments.keys() - found.get("arguments", {}).keys()
        defaults = inspect.signature(find(kind)).parameters
        new = {name: defaults[name].default for name in later & defaults.keys()}
        new = {name: describe(value) for name, value in new.items() if value is not inspect.Parameter.empty}
        found["arguments"] = {**found.get("arguments", {}), **new}
    return found


def _reordered(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line if class folders that are all numbers had another order in the version that wrote the run."""
    names = now.get("data", {}).get("class_names")
    if not names or "class_names" in before.get("data", {}) or not folder_order_changed(names, now["data"]["recipe"]):
        return []
    return [
        f"data.class_names were numbered in the order of their letters by an earlier version ({listed(sorted(names))}) "
        f"and are numbered in the order of their numbers ({listed(names)})"
    ]


def _not_compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> frozenset[str]:
    """Return the entries that are not compared, because one of the configurations lacks them."""
    derived = frozenset({"trained"})  # it follows from method and data, and earlier versions do not have it
    how = {before.get("fingerprint", "off"), now.get("fingerprint", "off")}
    if "off" in how:
        return CONTENTS | {"contents"} | derived
    pythons = {str(one.get("versions", {}).get("python")).rpartition(".")[0] for one in (before, now)}
    code = {"code_sha256"} if len(pythons) > 1 else set()  # bytecode differs between versions of Python
    return derived | code | ({"whole_sha256"} if how != {"whole"} else set())


def _shared(value: Any, other: Any) -> Any:
    """Leave out options of optimizers that only one version of torch has."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return {name: _shared(item, other[name]) for name, item in value.items() if name in other}
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        return [_shared(*pair) for pair in zip(value, other, strict=True)]
    return value


def _same_contents(before: Mapping[str, Any], now: Mapping[str, Any], left: frozenset[str]) -> bool:
    """Whether both data sets have the same contents, and these are known."""
    then, current = (_without(one.get("data", {}).get("contents"), left) for one in (before, now))
    return bool(then) and then == current


def _moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of before with the paths of now, where both have one."""
    moved = json.loads(json.dumps(before))
    for *parents, last in PLACES:
        then: Any = moved
        current: Any = now
        for name in parents:
            then, current = ((one or {}).get(name) for one in (then, current))
        values = [(one or {}).get(last) for one in (then, current)]
        if all(isinstance(value, str) and Path(value).is_absolute() for value in values):
            then[last] = values[1]
    return moved


def _without(value: Any, names: frozenset[str]) -> Any:
    """Leave out entries of nested dicts; a function without other entries is its name."""
    if isinstance(value, Mapping):
        left = {name: _without(item, names) for name, item in value.items() if name not in names}
        return left["function"] if left.keys() == {"function"} else left
    return [_without(item, names) for item in value] if isinstance(value, list) else value
