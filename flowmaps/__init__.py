"""flowmaps: learn the integral of a diffusion model.

The names are in the order of the post *Learning the integral of a diffusion model*.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from . import (
    adversaries,
    consistency,
    derivative,
    draws,
    exact,
    finite_steps,
    guidance,
    links,
    manifolds,
    matching,
    methods,
    networks,
    path,
    perceptual,
    riemannian,
    score_matching,
    simplex,
    steps,
    students,
    times,
    velocity,
    weight,
)
from .draws import Rows
from .flow_map import FlowMap, GuidanceSpec
from .method import Loss, Method, Stages, Term, TermLoss, Turns, balance, stages, term, turns
from .outputs import Bounded, Endpoint, GaussianSkip, Position, Rotation, average_velocity
from .pretrained import Pretrained, Reading, teacher
from .sampling import interpolate, invert, noise, sample, trajectory
from .students import student
from .times import grids
from .trained import TrainedSpec
from .units import Units

__all__ = [
    "path", "FlowMap", "GuidanceSpec", "TrainedSpec", "Units",
    "average_velocity", "Endpoint", "Position", "GaussianSkip", "Bounded", "Rotation", "links",
    "consistency", "simplex", "riemannian", "matching", "score_matching", "adversaries",
    "finite_steps", "derivative", "velocity",
    "teacher", "Pretrained", "Reading", "times", "grids", "weight", "perceptual", "balance",
    "draws", "Rows", "guidance", "Term", "Method", "Stages", "Turns", "Loss", "TermLoss", "methods", "stages", "turns",
    "term",
    "manifolds", "exact", "steps", "noise", "sample", "trajectory", "invert", "interpolate", "networks",
    "student", "students", "steering", "rewards", "look", "likelihood", "discrete", "sequences",
    "Autoregressive",
    "data", "evaluate", "experiments", "export", "figures", "fit", "load", "planning", "recipes", "reports", "save",
    "train", "training", "visualise",
]  # fmt: skip

# These need more than torch, or are wings of their own, so they are imported on first use: name -> module, attribute.
_LAZY = {
    "Autoregressive": ("sequences", "Autoregressive"),
    "data": ("data", None),
    "discrete": ("discrete", None),
    "evaluate": ("evaluate", None),
    "experiments": ("experiments", None),
    "export": ("export", None),
    "figures": ("figures", None),
    "fit": ("training", "fit"),
    "likelihood": ("likelihood", None),
    "load": ("runs", "load"),
    "planning": ("recipes.planning", None),
    "look": ("steering.look", None),
    "recipes": ("recipes", None),
    "reports": ("reports", None),
    "rewards": ("steering.rewards", None),
    "save": ("runs", "save"),
    "sequences": ("sequences", None),
    "steering": ("steering", None),
    "train": ("training", "train"),
    "training": ("training", None),
    "visualise": ("visualise", None),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("flowmaps")
    if name not in _LAZY:
        raise AttributeError(f"module 'flowmaps' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    found = import_module(f".{module}", __name__)
    return found if attribute is None else getattr(found, attribute)
