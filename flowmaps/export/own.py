"""A network of flowmaps as a pipeline of diffusers: its source, gathered, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..flow_map import FlowMap
from ..serialise import describe
from ..serialise import find as find_named
from ..students import Places, Student
from ..students.places import find
from .files import TEMPLATES, code, write_index, write_model
from .source import Name

PARTS = ("network", "output", "path", "only_source", "only_target")


def write_own(flow: FlowMap, folder: Path, shape: tuple[int, ...], image: bool) -> None:
    """Network, scheduler and pipeline. Raises ValueError for parts that are not of this package."""
    try:
        parts = described(flow)
    except TypeError as error:
        raise ValueError(
            f"only networks of flowmaps and of diffusers become a pipeline folder: {error}; --onnx and --program write "
            "the one-step sampler of any network"
        ) from None
    network = code(
        "flow_map_network",
        "A flow map as a model of diffusers: the class FlowMapNetwork, and what it is made of.",
        (f"{TEMPLATES}.network", "FlowMapNetwork"),
        *definitions(parts),
    )
    config = {"flow": local_names(parts), "shape": list(shape), "image": image, "noise_scale": noise_scale(flow)}
    write_model(folder / "network", {"_class_name": "FlowMapNetwork", **config}, flow.state_dict())
    pipeline = code("flow_map_pipeline", "Samples of a flow map.", (f"{TEMPLATES}.pipeline", "FlowMapPipeline"))
    written = network.write(folder / "network")
    write_index(folder, [pipeline.write(folder), "FlowMapPipeline"], {"network": [written, "FlowMapNetwork"]}, flow)


def described(flow: FlowMap) -> dict[str, Any]:
    """What the parts of a flow map are built with; of a student also its places, which are found here. Raises TypeError
    for parts that are not of this package.
    """
    parts = {name: describe(getattr(flow, name)) for name in PARTS}
    if isinstance(flow.network, Student):
        parts["network"]["arguments"]["places"] = describe(places_of(flow.network))
    return parts


def places_of(student: Any) -> Places:
    """Where the network of a student is shown its times."""
    return student._arguments["places"] or find(student.network)


def noise_scale(flow: FlowMap) -> float:
    """The standard deviation of the state at t = 1."""
    return float(flow.path.sigma(torch.ones((), dtype=torch.float64)))


def definitions(description: Any) -> list[Name]:
    """The classes and functions that a description names, as (module, name)."""
    if isinstance(description, list):
        return [name for item in description for name in definitions(item)]
    if not isinstance(description, dict):
        return []
    named = [find_named(description[key]) for key in ("type", "function") if isinstance(description.get(key), str)]
    here = [(thing.__module__, thing.__qualname__) for thing in named]
    return here + [name for item in description.values() for name in definitions(item)]


def local_names(description: Any) -> Any:
    """The same description, its names without their modules."""
    if isinstance(description, list):
        return [local_names(item) for item in description]
    if not isinstance(description, dict):
        return description
    return {
        key: value.rpartition(".")[2] if key in ("type", "function") and isinstance(value, str) else local_names(value)
        for key, value in description.items()
    }
