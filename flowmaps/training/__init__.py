"""Training of flow maps: the loop, its settings, and run folders."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..arguments import install

try:
    import rich  # noqa: F401
    import safetensors  # noqa: F401

    if find_spec("accelerate") is None:
        raise ImportError(name="accelerate")
except ImportError as error:
    raise ImportError(f"training and run folders need {error.name}: {install('train')}") from None

from ..distributed.shards import unshard
from ..runs.flow_file import save
from ..runs.folder import read_config
from ..runs.loading import load
from ..runs.records import read_metrics
from .config import KeepingConfig, LearningConfig, TrainConfig
from .schedule import WarmUp, WarmUpDecay, WarmUpStableDecay, constant

if TYPE_CHECKING:
    from .loop import State, fit, train
    from .loss_module import LossModule

whole = unshard
"""The earlier name of `unshard`."""

__all__ = [
    "KeepingConfig", "LearningConfig", "LossModule", "State", "TrainConfig", "WarmUp", "WarmUpDecay",
    "WarmUpStableDecay", "constant", "fit", "load", "read_config", "read_metrics", "save", "train", "unshard", "whole",
]  # fmt: skip

# These import accelerate. They load on first use, so that the command line starts fast.
_LAZY = {"LossModule": "loss_module", "State": "loop", "fit": "loop", "train": "loop"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flowmaps.training' has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
