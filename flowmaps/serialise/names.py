"""Public names of classes and functions, of this version and of earlier ones."""

from __future__ import annotations

import functools
import inspect
from typing import Any, TypeVar

import torch

C = TypeVar("C", bound=type)

PUBLIC = (
    "consistency", "data", "derivative", "draws", "exact", "finite_steps", "flow_map", "guidance",
    "integrations.diffusers", "integrations.edm", "integrations.peft", "links", "manifolds", "method", "networks",
    "outputs", "path", "pretrained", "sequences", "students", "times", "times.grids", "trained", "units",
    "velocity", "weight",
)  # fmt: skip
"""Public modules, by which public names start; other things are named by the first part of their module."""

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

_signature = functools.cache(inspect.signature)


def describable(cls: C) -> C:
    """Keep the arguments of each instance in `_arguments`, for descriptions and fingerprints (class decorator).

    Args:
        cls: A class. Its instances can be described if it is in the registry.

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
