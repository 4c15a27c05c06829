"""flowmaps: learn the integral of a diffusion model. Names stand in the order of the post *Learning the integral of a
diffusion model*.
"""

from importlib import import_module
from typing import Any

from . import (
    balance,
    consistency,
    derivative,
    draws,
    exact,
    finite_steps,
    grids,
    guidance,
    matmul,
    methods,
    networks,
    path,
    perceptual,
    steps,
    students,
    times,
    velocity,
    weight,
)
from .draws import Rows
from .flow_map import Bounded, Endpoint, FlowMap, GaussianSkip, Position, Rotation, average_velocity
from .method import Loss, Method
from .sample import interpolate, invert, sample, trajectory
from .stages import Stages
from .students import student
from .teacher import Pretrained, Reading, teacher
from .term import Term, TermLoss

__all__ = [
    "path", "FlowMap", "average_velocity", "Endpoint", "Position", "GaussianSkip", "Bounded", "Rotation",
    "consistency", "finite_steps", "derivative", "velocity", "teacher", "Pretrained", "Reading",
    "times", "grids", "weight", "perceptual", "balance",
    "draws", "Rows", "guidance", "Term", "Method", "Stages", "Loss", "TermLoss", "methods",
    "matmul", "exact", "steps", "sample", "trajectory", "invert", "interpolate", "networks",
    "student", "students",
    "data", "evaluate", "export", "load", "planning", "recipes", "train", "training", "visualise",
]  # fmt: skip

# These need more than torch, so they are imported when they are first asked for.
_LAZY = {"train": "training", "load": "training"} | dict.fromkeys(
    ("data", "evaluate", "export", "planning", "recipes", "training", "visualise")
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flowmaps' has no attribute {name!r}")
    home = _LAZY[name]
    return import_module(f".{name}", __name__) if home is None else getattr(import_module(f".{home}", __name__), name)
