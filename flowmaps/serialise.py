"""Describe an object as plain JSON and build it again, so that a run folder holds a network without pickle.

Things are named by their public name: the public package or module below `flowmaps`, and the name in it, such as
"networks.DiT" or "path.Linear". The name says nothing of the file, so moving a file inside its package breaks no run.
Only public things can be named: classes with `@describable` and frozen dataclasses of the modules in `PUBLIC`, and
functions of the modules in `FUNCTIONS`. Tensors are kept as shape and dtype; their content travels in the state dict
(safetensors).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

C = TypeVar("C", bound=type)

FUNCTIONS = (
    "consistency", "derivative", "finite_steps", "integrations.edm", "networks", "outputs", "path", "times",
    "times.grids", "velocity", "weight",
)  # fmt: skip
"""Public modules whose functions a description may name."""

PUBLIC = (
    *FUNCTIONS, "draws", "exact", "flow_map", "guidance", "integrations.diffusers", "integrations.peft", "method",
    "pretrained", "students",
)  # fmt: skip
"""Public modules whose describable classes and frozen dataclasses a description may name."""

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
"""Public module of today for a module of 0.1.0, or one thing in it, where the first part of its name does not say it.

Files of version 0.1.0 (format 1) name "flowmaps.module:name".
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
"""Public name of today for a public name of before."""

SHOWN = 4
"""Number of differences that an error message lists."""

_describable: set[type] = set()
_signature = functools.cache(inspect.signature)


def describable(cls: C) -> C:
    """Let a class take part in descriptions (class decorator).

    Each instance remembers the arguments of its `__init__` in `_arguments`, from which `describe` writes it down.

    Args:
        cls: A public class of a module in `PUBLIC`.

    Returns:
        The same class.
    """
    init = cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def remembering(self: Any, *args: Any, **kwargs: Any) -> None:
        if torch.compiler.is_compiling():  # made and forgotten within one call
            return init(self, *args, **kwargs)
        bound = _signature(init).bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:])
        init(self, *args, **kwargs)
        # after init, because nn.Module refuses attributes before its own; past nn.Module, because an argument that is a
        # module is registered once already, under the name that the class gives it
        if type(self) is cls:
            object.__setattr__(self, "_arguments", arguments)

    cls.__init__ = remembering  # type: ignore[misc]
    _describable.add(cls)
    return cls


def describe(obj: Any) -> Any:
    """Describe an object as JSON.

    Args:
        obj: A number, string, list, dict, tensor (kept as shape and dtype), public function of this package, instance
            of a describable class or of a public frozen dataclass; any nesting of these.

    Returns:
        Nested dicts, lists, numbers and strings, which `build` turns back into the object.

    Raises:
        TypeError: For anything else, naming it.
    """
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, (list, tuple, torch.Size)):
        return [describe(item) for item in obj]
    if isinstance(obj, dict):
        return {key: describe(value) for key, value in obj.items()}
    if isinstance(obj, Tensor):
        return {"tensor": list(obj.shape), "dtype": str(obj.dtype).removeprefix("torch.")}
    if inspect.isfunction(obj) and _is_named(obj):
        return {"function": public_name(obj)}
    if _is_named(type(obj)):
        if hasattr(obj, "_arguments"):
            return {"type": public_name(type(obj)), "arguments": describe(obj._arguments)}
        if _is_frozen(type(obj)):
            arguments = {f.name: describe(getattr(obj, f.name)) for f in dataclasses.fields(obj) if f.init}
            return {"type": public_name(type(obj)), "arguments": arguments}
    raise TypeError(
        f"cannot describe {type(obj).__module__}.{type(obj).__qualname__}: only numbers, strings, lists, dicts, "
        "tensors and describable objects of flowmaps can be rebuilt from a file; pass your own network to "
        "fm.load(run, network=...) instead"
    )


def build(description: Any) -> Any:
    """Build an object from its description, the inverse of `describe`.

    Args:
        description: JSON as `describe` writes it, by this version or an earlier one.

    Returns:
        The object. Tensors come back as zeros of their shape and dtype, to be filled from a state dict.

    Raises:
        ValueError: For a name that is not public, and for arguments that do not fit the class.
        ImportError: If a package that a class needs is not installed.
    """
    if isinstance(description, list):
        return [build(item) for item in description]
    if not isinstance(description, dict):
        return description
    if "tensor" in description:
        return torch.zeros(description["tensor"], dtype=_dtype(description.get("dtype")))
    if "function" in description:
        return find(description["function"], "function")
    if "type" in description:
        return _made(description["type"], build(description.get("arguments", {})))
    return {key: build(value) for key, value in description.items()}


def public_name(thing: Any) -> str:
    """Name a class or function: "networks.DiT" for one of this package, "module:name" for one of another."""
    module = str(getattr(thing, "__module__", ""))
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    package, _, inside = module.partition(".")
    return f"{public_module(inside)}.{name}" if package == "flowmaps" else f"{module}:{name}"


def public_module(module: str) -> str:
    """Public module that a module belongs to, both below `flowmaps`: "networks" for "networks.dit"."""
    known = [place for place in PUBLIC if f"{module}.".startswith(f"{place}.")]
    return max(known, key=len, default=module.split(".")[0])


def find(name: str, kind: str | None = None) -> Any:
    """Look up the class or function with a public name, the only way from a name to an object.

    Args:
        name: A public name of today, or a name that an earlier version wrote.
        kind: "type" or "function" for one of the two. None: either.

    Returns:
        The class or function.

    Raises:
        ValueError: For a name that is not public, or not of this kind.
        ImportError: If a package that the module needs is not installed.
    """
    today = current(name)
    place = max((place for place in PUBLIC if str(today).startswith(f"{place}.")), key=len, default=None)
    if place is None and (not isinstance(today, str) or ":" in today):
        raise ValueError(f"a description may only name parts of flowmaps, but this one names {name!r}")
    found = place and getattr(importlib.import_module(f"flowmaps.{place}"), today.removeprefix(f"{place}."), None)
    if found is None:
        raise ValueError(f"this version of flowmaps has no public {name!r}: the file may come from another version")
    # an import of a module is not part of it: a file must not reach shutil.rmtree through it
    is_kind = kind is None or (kind == "type") == isinstance(found, type)
    if not (is_kind and _may_be_named(found) and public_name(found) == today):
        what = "classes and functions" if kind is None else {"type": "classes", "function": "functions"}[kind]
        raise ValueError(f"a description may only name public {what} of flowmaps, and {name!r} is none")
    return found


def current(description: Any) -> Any:
    """Translate a description to the public names of today.

    Args:
        description: JSON as this or an earlier version wrote it. Format 1 names "flowmaps.module:name".

    Returns:
        The same with every name as `public_name` writes it.
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


def differences(before: Any, now: Any, name: str) -> Iterator[str]:
    """Compare two nested configurations of JSON values.

    Args:
        before: The configuration that was saved.
        now: The configuration of today.
        name: What both are called in the lines.

    Yields:
        One line for each entry in which they differ.
    """
    kinds = [part.get("type") if isinstance(part, dict) else None for part in (before, now)]
    if None not in kinds and kinds[0] != kinds[1]:
        yield f"{name} was {kinds[0]} and is {kinds[1]}"
    elif isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from differences(before.get(key), now.get(key), f"{name}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{name}[{index}]")
    elif before != now:
        yield f"{name} was {before} and is {now}"


def shown(changed: Sequence[str]) -> str:
    """The first few differences as one string, with the number of the others."""
    more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"{'; '.join(changed[:SHOWN])}{more}"


def _from_format_1(name: str) -> str:
    """The public name for "flowmaps.module:name", any other string as it is."""
    package, _, rest = name.partition(".")
    module, colon, inside = rest.partition(":")
    if package != "flowmaps" or not colon:
        return name
    place = BEFORE.get(f"{module}:{inside.split('.')[0]}") or BEFORE.get(module) or public_module(module)
    return f"{place}.{inside}"


def _made(name: str, arguments: Mapping[str, Any]) -> Any:
    """An instance of the class with a public name."""
    cls = find(name, "type")
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"the arguments in this description do not fit {name}: {error}") from None
    return cls(**arguments)


def _dtype(name: Any) -> torch.dtype:
    """The dtype of torch with a name."""
    found = getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} in this description is no dtype of torch")
    return found


def _is_frozen(thing: Any) -> bool:
    """Whether this is a frozen dataclass."""
    return isinstance(thing, type) and dataclasses.is_dataclass(thing) and thing.__dataclass_params__.frozen  # type: ignore[attr-defined]


def _may_be_named(thing: Any) -> bool:
    """Whether this is a public class or function of a kind that descriptions name."""
    package, _, module = str(getattr(thing, "__module__", "")).partition(".")
    name = getattr(thing, "__qualname__", "")
    if package != "flowmaps" or not name.isidentifier() or name.startswith("_"):
        return False
    if inspect.isfunction(thing):
        return public_module(module) in FUNCTIONS
    return public_module(module) in PUBLIC and (thing in _describable or _is_frozen(thing))


def _is_named(thing: Any) -> bool:
    """Whether `find` leads back to this very class or function."""
    try:
        return _may_be_named(thing) and find(public_name(thing)) is thing
    except ValueError:
        return False
