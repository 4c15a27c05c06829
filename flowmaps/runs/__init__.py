"""Run folders: configuration, metrics, checkpoints, and loading the flow map of a run."""

from .folder import Run, read_config, read_metrics
from .loading import load

__all__ = ["Run", "load", "read_config", "read_metrics"]
