"""Training: the loop, its run folder, and what is kept of it."""

try:
    import accelerate  # noqa: F401
    import rich  # noqa: F401
    import safetensors  # noqa: F401
except ImportError as error:
    raise ImportError(f"training and run folders need {error.name}: pip install flowmaps[train]") from None

from .learner import LossModule
from .loading import load
from .loop import State, train
from .run import read_config, read_metrics
from .schedule import WarmUp, WarmUpDecay, constant
from .whole import whole

__all__ = [
    "LossModule",
    "State",
    "WarmUp",
    "WarmUpDecay",
    "constant",
    "load",
    "read_config",
    "read_metrics",
    "train",
    "whole",
]
