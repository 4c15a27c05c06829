"""Describe an object as plain JSON and build it again: how a run folder keeps a network without pickle.

A class takes part by `@describable`, which remembers the arguments it was built with. Frozen dataclasses of this
package take part by themselves. Tensors are kept as shape and dtype only; their content travels in the state dict
(safetensors).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

C = TypeVar("C", bound=type)

MOVED = {
    "flow_map:Bounded": "outputs:Bounded",
    "flow_map:Endpoint": "outputs:Endpoint",
    "flow_map:GaussianSkip": "outputs:GaussianSkip",
    "flow_map:Position": "outputs:Position",
    "flow_map:Rotation": "outputs:Rotation",
    "flow_map:average_velocity": "outputs:average_velocity",
    "balance": "method.balance",
    "data.changes": "data.transforms",
    "data.changes:WithGuidance": "data.transforms:GuidanceScales",
    "data.changes:WithoutLabel": "data.transforms:LabelDropout",
    "data.changes:WithoutText": "data.transforms:TextDropout",
    "grids": "times.grids",
    "methods.consistency_models:ect": "methods.consistency_training:ect",
    "methods.consistency_models:ict": "methods.consistency_training:ict",
    "methods.consistency_models:inverse_step": "methods.consistency_training:inverse_step",
    "methods.consistency_models:relative_step": "methods.consistency_training:relative_step",
    "methods.consistency_models:snapped": "methods.consistency_training:snapped",
    "methods.mean_flows:alphaflow": "methods.shrinking_steps:alphaflow",
    "methods.mean_flows:geometric": "methods.shrinking_steps:geometric",
    "methods.mean_flows:sigmoid_fall": "methods.shrinking_steps:sigmoid_fall",
    "methods.mean_flows:soflow": "methods.shrinking_steps:soflow",
    "path:Discrete": "path.discrete:Discrete",
    "path:Linear": "path.closed:Linear",
    "path:Trigonometric": "path.closed:Trigonometric",
    "path:VarianceExploding": "path.closed:VarianceExploding",
    "path:VariancePreserving": "path.closed:VariancePreserving",
    "path:data": "path.base:data",
    "path:noise": "path.base:noise",
    "path:score": "path.base:score",
    "path:v_prediction": "path.base:v_prediction",
    "path:velocity": "path.base:velocity",
    "stages": "method.stages",
    "students.places": "students.time_layers",
    "students.places:OurPlaces": "students.time_layers:OurTimeLayers",
    "students.places:Places": "students.time_layers:TimeLayers",
    "teacher": "pretrained",
    "term": "method.term",
    "times": "times.samplers",
    "times:both_directions": "times.modifiers:both_directions",
    "times:from_noise": "times.modifiers:from_noise",
    "times:growing_gap": "times.modifiers:growing_gap",
    "times:mixture": "times.modifiers:mixture",
    "times:to_data": "times.modifiers:to_data",
    "times:with_diagonal": "times.modifiers:with_diagonal",
}
"""Where parts of flowmaps that files of version 0.1.0 name are now: modules, or one thing in a module."""

SHOWN = 4
"""Number of differences that an error message lists."""


def describable(cls: C) -> C:
    """Class decorator: remember the arguments of `__init__` in `self._arguments`, so that `describe` can write them
    down.
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
    return cls


_signature = functools.cache(inspect.signature)


def describe(obj: Any) -> Any:
    """JSON-able description of a number, string, list, dict, tensor (shape and dtype), function of this package, or
    describable object.

    Raises TypeError for anything else, naming it.
    """
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, (list, tuple, torch.Size)):
        return [describe(item) for item in obj]
    if isinstance(obj, dict):
        return {key: describe(value) for key, value in obj.items()}
    if isinstance(obj, Tensor):
        return {"tensor": list(obj.shape), "dtype": str(obj.dtype).removeprefix("torch.")}
    if inspect.isfunction(obj) and _is_ours(obj) and obj.__qualname__.isidentifier():
        return {"function": f"{obj.__module__}:{obj.__qualname__}"}
    if _is_ours(type(obj)):
        if hasattr(obj, "_arguments"):
            return {"type": _name(type(obj)), "arguments": describe(obj._arguments)}
        if dataclasses.is_dataclass(obj):
            return {
                "type": _name(type(obj)),
                "arguments": {f.name: describe(getattr(obj, f.name)) for f in dataclasses.fields(obj) if f.init},
            }
    raise TypeError(
        f"cannot describe {type(obj).__module__}.{type(obj).__qualname__}: only numbers, strings, lists, dicts, "
        "tensors and describable objects of flowmaps can be rebuilt from a file; pass your own network to "
        "fm.load(run, network=...) instead"
    )


def build(description: Any) -> Any:
    """The inverse of `describe`; tensors come back as zeros of the right shape, to be filled from a state dict.

    Raises ValueError where the description names something outside this package or something that it does not have.
    """
    if isinstance(description, list):
        return [build(item) for item in description]
    if not isinstance(description, dict):
        return description
    if "tensor" in description:
        return torch.zeros(description["tensor"], dtype=getattr(torch, description["dtype"]))
    if "function" in description:
        return _find(description["function"], inspect.isfunction)
    if "type" in description:
        return _find(description["type"], inspect.isclass)(**build(description["arguments"]))
    return {key: build(value) for key, value in description.items()}


def current(description: Any) -> Any:
    """The same with the names of today for parts that were elsewhere when it was written."""
    if isinstance(description, list):
        return [current(item) for item in description]
    if isinstance(description, dict):
        return {key: current(value) for key, value in description.items()}
    if isinstance(description, str) and description.startswith("flowmaps.") and ":" in description:
        module, _, name = description.removeprefix("flowmaps.").partition(":")
        first = name.split(".")[0]
        moved = MOVED.get(f"{module}:{first}")
        return (
            f"flowmaps.{moved}{name.removeprefix(first)}" if moved else f"flowmaps.{MOVED.get(module, module)}:{name}"
        )
    return description


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


def _is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] == "flowmaps"


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _find(name: str, kind: Callable[[Any], bool]) -> Any:
    module, _, attribute = name.partition(":")
    if module.split(".")[0] != "flowmaps":
        raise ValueError(f"a description may only name parts of flowmaps, but this one names {name!r}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise ValueError(f"this version of flowmaps has no {name!r}: the file may come from another version") from None
    # what a module of ours has merely imported is not ours: a file must not reach shutil.rmtree through it
    if not (kind(found) and _is_ours(found)):
        raise ValueError(f"a description may only name classes and functions of flowmaps, but {name!r} is neither")
    return found
