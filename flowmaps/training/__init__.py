"""Training: the loop, its run folder, and what is kept of it."""

try:
    import accelerate  # noqa: F401
    import rich  # noqa: F401
    import safetensors  # noqa: F401
except ImportError as error:
    raise ImportError(f"training and run folders need {error.name}: pip install flowmaps[train]") from None

from ..distributed.unshard import whole
from ..runs.folder import read_config, read_metrics
from ..runs.loading import load
from .learner import LossModule
from .loop import State, train
from .schedule import WarmUp, WarmUpDecay, constant

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
