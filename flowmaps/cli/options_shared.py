"""Options that several commands share; the training options are declared in `flowmaps.training.config`."""

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
    """Options of learning."""

    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class Keeping(KeepingConfig, Common):
    """Options of one run: its files, and its processes."""
