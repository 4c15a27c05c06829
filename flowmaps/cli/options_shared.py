"""Options that several commands share. Those of training are declared in `flowmaps.training.config`."""

from __future__ import annotations

from dataclasses import dataclass

from ..training.config import KeepingConfig, LearningConfig


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    debug: bool = False
    """Show the whole traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Learning(LearningConfig, Common):
    """How a network learns."""


@dataclass(frozen=True, kw_only=True)
class Keeping(KeepingConfig, Common):
    """How one run is kept, and spread over processes."""
