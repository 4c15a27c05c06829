"""Write a network of flowmaps as a pipeline of diffusers: its gathered source and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..flow_map import FlowMap
from ..sampling.in_order import makes_sequences
from ..serialise import describe
from ..students import Student, TimeLayers
from ..students.time_layers import time_layers_of
from .code import Code, names_in
from .files import write_index, write_model

PARTS = ("network", "output", "path", "only_source", "only_target")


def write_own(flow: FlowMap, folder: Path, shape: tuple[int, ...], image: bool) -> None:
    """Write network, scheduler and pipeline.

    Args:
        flow: The flow map.
        folder: The folder of the pipeline.
        shape: Shape of one sample.
        image: Whether samples are images in [-1, 1].

    Raises:
        ValueError: For parts that are not of this package, for a map of standardised sequences, and for a head on a
            backbone.
    """
    if makes_sequences(flow):
        raise ValueError(
            "a head on a backbone makes sequences frame by frame, and becomes no pipeline folder: fm.export.to_onnx "
            "and fm.export.to_program write its next frame"
        )
    if flow.units is not None and flow.units.axis:
        raise ValueError(
            "a map of standardised sequences becomes no pipeline folder: fm.export.to_onnx and fm.export.to_program "
            "write its one-step sampler"
        )
    try:
        parts = described(flow)
    except TypeError as error:
        raise ValueError(
            f"only networks of flowmaps and of diffusers become a pipeline folder: {error}; fm.export.to_onnx and "
            "fm.export.to_program write the one-step sampler of any network"
        ) from None
    network, pipeline = Code("network", tuple(names_in(parts))), Code("pipeline")
    config = {"flow": local_names(parts), "shape": list(shape), "image": image, "noise_scale": noise_scale(flow)}
    config |= {} if flow.units is None else {"units": {"mean": list(flow.units.mean), "std": list(flow.units.std)}}
    write_model(folder / "network", {"_class_name": network.defines, **config}, flow.state_dict())
    written = network.write(folder / "network")
    write_index(folder, [pipeline.write(folder), pipeline.defines], {"network": [written, network.defines]}, flow)


def described(flow: FlowMap) -> dict[str, Any]:
    """Describe the parts of a flow map; the description of a student includes its time layers.

    Raises:
        TypeError: For parts that are not of this package.
    """
    parts = {name: describe(getattr(flow, name)) for name in PARTS}
    if isinstance(flow.network, Student):
        parts["network"]["arguments"]["places"] = describe(time_layers(flow.network))
    return parts


def time_layers(student: Any) -> TimeLayers:
    """Return the time layers of a student's network."""
    return student._arguments["places"] or time_layers_of(student.network)


def noise_scale(flow: FlowMap) -> float:
    """Return the standard deviation of the state at t = 1."""
    return float(flow.path.sigma(torch.ones((), dtype=torch.float64)))


def local_names(description: Any) -> Any:
    """Return a description with names without their modules."""
    if isinstance(description, list):
        return [local_names(item) for item in description]
    if not isinstance(description, dict):
        return description
    return {
        key: value.rpartition(".")[2] if key in ("type", "function") and isinstance(value, str) else local_names(value)
        for key, value in description.items()
    }
