"""The registry: the parts of a flow map that a file may name, and the only way from a name in a file to an object."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from ..arguments import did_you_mean
from .checking import shown as shown_value
from .names import current, public_name

PARTS: Mapping[str, tuple[str, ...]] = {
    "data": ("Angles", "Bytes", "Characters", "Columns", "LatitudeLongitude", "Quaternions", "Tokenizer"),
    "flow_map": ("FlowMap", "GuidanceSpec"),
    "guidance": ("Fading", "Within"),
    "integrations.diffusers": ("DiffusersNetwork",),
    "integrations.edm": ("LogLevel", "Preconditioned", "negative_output", "output"),
    "integrations.peft": ("Adapted",),
    "links": ("Capped", "Hull", "Mixed", "identity", "softmax", "tanh", "unit_rows"),
    "manifolds": ("Euclidean", "Hyperbolic", "Product", "SO3", "Sphere", "Torus"),
    "networks": (
        "CausalTransformer", "ConcatMLP", "Decoupled", "DiT", "DivergenceHead", "Fourier", "GaussianEndpoint",
        "GaussianInput", "Head", "InBasis", "MLP", "OnCircles", "Recurrent", "SelfConditioned", "StateInput",
        "TokenTransformer", "UNet", "WithBackbone", "WithDivergence",
        "expanded", "gap", "gap_only", "learned_norm", "none", "pair", "plain_norm", "raw", "rms_norm", "source_only",
        "unchanged",
    ),
    "outputs": (
        "Bounded", "Endpoint", "GaussianSkip", "MixturePolicy", "Position", "Rotation", "SeparableSkip",
        "average_velocity",
    ),
    "path": (
        "Discrete", "Geodesic", "Linear", "Trigonometric", "VarianceExploding", "VariancePreserving",
        "data", "noise", "score", "v_prediction", "velocity",
    ),
    "pretrained": ("Affine", "Reading"),
    "sequences": ("LogMel", "MDCT", "Signal"),
    "students": ("Diagonal", "OurTimeLayers", "Student", "TimeLayers"),
    "trained": ("TrainedSpec",),
    "units": ("Units",),
}  # fmt: skip
"""Classes and functions that a description may name, by public module. A file can reach nothing else."""

NAMES = {f"{module}.{name}": (module, name) for module, names in PARTS.items() for name in names}
"""Public module and name in it, by public name."""


def find(name: Any, kind: str | None = None) -> Any:
    """Find the class or function with a public name; objects in files are found only here.

    The name is looked up in `NAMES`. It is never imported, and never resolved as an attribute of a module.

    Args:
        name: A current public name, or a name written by an earlier version.
        kind: "type" or "function" for one of the two. None: either.

    Returns:
        The class or function.

    Raises:
        ValueError: If the name is not in the registry, or not of this kind.
        ImportError: If a package that the module needs is not installed.
    """
    now, shown = current(name), shown_value(name)
    if not isinstance(now, str) or ":" in now:
        raise ValueError(f"a description may only name parts of flowmaps, but this one names {shown}")
    if now not in NAMES:
        raise ValueError(
            f"this version of flowmaps has no part {shown} that a file may name{did_you_mean(now, NAMES)}: the file "
            "may come from another version"
        )
    module, attribute = NAMES[now]
    found = vars(importlib.import_module(f"flowmaps.{module}"))[attribute]
    if kind is not None and (kind == "type") != isinstance(found, type):
        kinds = {"type": "a class", "function": "a function"}[kind]
        raise ValueError(f"a description names {kinds} here, and {shown} is not one")
    return found


def is_named(thing: Any) -> bool:
    """Whether a class or function is in the registry."""
    if not (isinstance(thing, type) or inspect.isfunction(thing)):
        return False
    name = public_name(thing)
    return name in NAMES and find(name) is thing
