"""What decides the numbers of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..velocity import MakeOptimizer
from .fingerprint import fingerprint

Precision = Literal["no", "bf16"]


@dataclass(frozen=True)
class Plan:
    """The arguments of `train` that a resumed run must share with the first one; see there. Raises ValueError for what
    cannot be.
    """

    steps: int | None
    seconds: float | None
    batch_size: int
    lr: float
    optimizer: MakeOptimizer | None
    schedule: Callable[[float], float]
    ema: float
    clip: float | None
    seed: int
    precision: Precision
    compile: bool
    labels: bool

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError(
                f"training needs a length: either steps= or seconds=, got steps={self.steps}, seconds={self.seconds}"
            )
        for name in ("steps", "seconds", "batch_size", "lr", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f'precision must be "no" or "bf16", got {self.precision!r}')

    def as_json(self) -> dict[str, Any]:
        """For config.json."""
        return {field.name: fingerprint(getattr(self, field.name)) for field in fields(self)}

    def progress(self, step: int, seconds: float) -> float:
        """The share of training that is done after `step` steps that took `seconds`, in [0, 1]."""
        done = step / self.steps if self.steps is not None else seconds / (self.seconds or math.inf)
        return min(done, 1.0)
