"""Run folders: configuration, metrics, checkpoints, and loading the flow map of a run."""

from .folder import Run, read_config
from .loading import load
from .records import read_metrics

__all__ = ["Run", "load", "read_config", "read_metrics"]
