"""Run folders: configuration, metrics, checkpoints, and the flow map that is read from them."""

from .folder import Run, read_config, read_metrics
from .loading import load

__all__ = ["Run", "load", "read_config", "read_metrics"]
