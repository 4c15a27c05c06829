"""Run folders: configuration, metrics, checkpoints, and loading the flow map of a run."""

from .flow_file import save
from .folder import Run, read_config
from .loading import load
from .records import read_metrics

__all__ = ["Run", "load", "read_config", "read_metrics", "save"]
