"""Public names of classes and functions, and the only way from a name in a file to an object."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from typing import Any, TypeVar

import torch

C = TypeVar("C", bound=type)

FUNCTIONS = (
    "consistency", "derivative", "finite_steps", "integrations.edm", "networks", "outputs", "path", "times",
    "times.grids", "velocity", "weight",
)  # fmt: skip
"""Public modules with functions that a description may name."""

PUBLIC = (
    *FUNCTIONS, "draws", "exact", "flow_map", "guidance", "integrations.diffusers", "integrations.peft", "method",
    "pretrained", "students",
)  # fmt: skip
"""Public modules with describable classes and frozen dataclasses that a description may name."""

BEFORE = {
    "balance": "method",
    "flow_map:Bounded": "outputs",
    "flow_map:Endpoint": "outputs",
    "flow_map:GaussianSkip": "outputs",
    "flow_map:Position": "outputs",
    "flow_map:Rotation": "outputs",
    "flow_map:average_velocity": "outputs",
    "grids": "times.grids",
    "stages": "method",
    "teacher": "pretrained",
    "term": "method",
}
"""Current public module of a module of version 0.1.0, or of one thing in it, if the first part of its name differs.

Files of version 0.1.0 (format 1) contain names such as "flowmaps.module:name".
"""

RENAMED = {
    "data.WithGuidance": "data.GuidanceScales",
    "data.WithoutLabel": "data.LabelDropout",
    "data.WithoutText": "data.TextDropout",
    "guidance.AtAllTimes": "guidance.ConstantShare",
    "guidance.FromPairs": "guidance.GuidedConditional",
    "guidance.OfConsistency": "guidance.GuidedSelfDistillation",
    "guidance.OverScale": "guidance.InverseScale",
    "guidance.Told": "guidance.GuidanceConditioning",
    "guidance.WhereItActs": "guidance.ActiveShare",
    "guidance.at_its_scale": "guidance.own_at_effective_scale",
    "guidance.balanced": "guidance.balanced_share",
    "guidance.none": "guidance.zero_share",
    "students.OurPlaces": "students.OurTimeLayers",
    "students.Places": "students.TimeLayers",
}
"""Current public name of a renamed thing, by its former public name."""

_describable: set[type] = set()
_signature = functools.cache(inspect.signature)


def describable(cls: C) -> C:
    """Allow instances of a class to be described (class decorator).

    Each instance keeps the arguments of its `__init__` in `_arguments`, for `describe`.

    Args:
        cls: A public class of a module in `PUBLIC`.

    Returns:
        The same class.
    """
    init = cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def remembering(self: Any, *args: Any, **kwargs: Any) -> None:
        if torch.compiler.is_compiling():  # a temporary object, which is never described
            return init(self, *args, **kwargs)
        bound = _signature(init).bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:])
        init(self, *args, **kwargs)
        # after init, because nn.Module refuses attributes before its own __init__; without nn.Module.__setattr__, which
        # would register arguments that are modules a second time
        if type(self) is cls:
            object.__setattr__(self, "_arguments", arguments)

    cls.__init__ = remembering  # type: ignore[misc]
    _describable.add(cls)
    return cls


def public_name(thing: Any) -> str:
    """Return the name of a class or function: "networks.DiT" in this package, "module:name" in another one."""
    module = str(getattr(thing, "__module__", ""))
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    package, _, inside = module.partition(".")
    return f"{public_module(inside)}.{name}" if package == "flowmaps" else f"{module}:{name}"


def public_module(module: str) -> str:
    """Return the public module of a module, both below `flowmaps`: "networks" for "networks.dit"."""
    known = [public for public in PUBLIC if f"{module}.".startswith(f"{public}.")]
    return max(known, key=len, default=module.split(".")[0])


def find(name: str, kind: str | None = None) -> Any:
    """Find the class or function with a public name; objects in files are found only here.

    Args:
        name: A current public name, or a name written by an earlier version.
        kind: "type" or "function" for one of the two. None: either.

    Returns:
        The class or function.

    Raises:
        ValueError: If the name is not public, or not of this kind.
        ImportError: If a package that the module needs is not installed.
    """
    now = current(name)
    module = max((public for public in PUBLIC if str(now).startswith(f"{public}.")), key=len, default=None)
    if module is None and (not isinstance(now, str) or ":" in now):
        raise ValueError(f"a description may only name parts of flowmaps, but this one names {name!r}")
    found = module and getattr(importlib.import_module(f"flowmaps.{module}"), now.removeprefix(f"{module}."), None)
    if found is None:
        raise ValueError(f"this version of flowmaps has no public {name!r}: the file may come from another version")
    # names that a module imports are not its own: a file must not reach shutil.rmtree through a public module
    is_kind = kind is None or (kind == "type") == isinstance(found, type)
    if not (is_kind and _may_be_named(found) and public_name(found) == now):
        kinds = "classes and functions" if kind is None else {"type": "classes", "function": "functions"}[kind]
        raise ValueError(f"a description may only name public {kinds} of flowmaps, and {name!r} is not one")
    return found


def current(description: Any) -> Any:
    """Translate the names in a description to current public names.

    Args:
        description: JSON written by this version or an earlier one. Names in format 1 are "flowmaps.module:name".

    Returns:
        The description with names as returned by `public_name`.
    """
    if isinstance(description, list):
        return [current(item) for item in description]
    if isinstance(description, dict):
        return {key: current(value) for key, value in description.items()}
    if not isinstance(description, str):
        return description
    name = _from_format_1(description)
    renamed = next((old for old in RENAMED if name == old or name.startswith(f"{old}.<")), None)
    return name if renamed is None else RENAMED[renamed] + name.removeprefix(renamed)


def _from_format_1(name: str) -> str:
    """Return the public name for "flowmaps.module:name"; other strings are returned unchanged."""
    package, _, rest = name.partition(".")
    module, colon, inside = rest.partition(":")
    if package != "flowmaps" or not colon:
        return name
    public = BEFORE.get(f"{module}:{inside.split('.')[0]}") or BEFORE.get(module) or public_module(module)
    return f"{public}.{inside}"


def is_frozen(thing: Any) -> bool:
    """Whether an object is a frozen dataclass."""
    return isinstance(thing, type) and dataclasses.is_dataclass(thing) and thing.__dataclass_params__.frozen  # type: ignore[attr-defined]


def _may_be_named(thing: Any) -> bool:
    """Whether descriptions may name a class or function: it is public and of the right kind."""
    package, _, module = str(getattr(thing, "__module__", "")).partition(".")
    name = getattr(thing, "__qualname__", "")
    if package != "flowmaps" or not name.isidentifier() or name.startswith("_"):
        return False
    if inspect.isfunction(thing):
        return public_module(module) in FUNCTIONS
    return public_module(module) in PUBLIC and (thing in _describable or is_frozen(thing))


def is_named(thing: Any) -> bool:
    """Whether a class or function has a public name by which `find` returns it."""
    try:
        return _may_be_named(thing) and find(public_name(thing)) is thing
    except ValueError:
        return False
