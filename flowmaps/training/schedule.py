"""Learning-rate schedules: functions from progress in [0, 1] to a factor of the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from ..arguments import finite


@dataclass(frozen=True)
class WarmUpDecay:
    """A linear rise from `final` to 1, then a linear fall to `final`.

    Args:
        warmup: Share of training in which the factor rises, in [0, 1).
        final: The factor at the start and at the end, in [0, 1].

    Raises:
        ValueError: If a value is outside its interval.
    """

    warmup: float = 0.02
    final: float = 0.01

    def __post_init__(self) -> None:
        finite(warmup=self.warmup, final=self.final)
        if not (0 <= self.warmup < 1 and 0 <= self.final <= 1):
            raise ValueError(
                f"warmup must lie in [0, 1) and final in [0, 1], got warmup={self.warmup}, final={self.final}"
            )

    def __call__(self, progress: float) -> float:
        """Compute the factor at a share `progress` of training."""
        if progress < self.warmup:
            share = progress / self.warmup
        else:
            share = (1 - progress) / (1 - self.warmup)
        return self.final + (1 - self.final) * share


@dataclass(frozen=True)
class WarmUpStableDecay:
    """A linear rise from `final` to 1, then 1, then a linear fall to `final` (often called WSD or trapezoidal).

    Args:
        warmup: Share of training in which the factor rises, in [0, 1).
        decay: Share of training in which the factor falls, in (0, 1 - warmup].
        final: The factor at the start and at the end, in [0, 1].

    Raises:
        ValueError: If a value is outside its interval.
    """

    warmup: float = 0.02
    decay: float = 0.4
    final: float = 0.01

    def __post_init__(self) -> None:
        finite(warmup=self.warmup, decay=self.decay, final=self.final)
        if not (0 <= self.warmup < 1 and 0 < self.decay <= 1 - self.warmup and 0 <= self.final <= 1):
            raise ValueError(
                "warmup must lie in [0, 1), decay in (0, 1 - warmup] and final in [0, 1], "
                f"got warmup={self.warmup}, decay={self.decay}, final={self.final}"
            )

    def __call__(self, progress: float) -> float:
        """Compute the factor at a share `progress` of training."""
        rise = progress / self.warmup if progress < self.warmup else 1.0
        return self.final + (1 - self.final) * min(rise, (1 - progress) / self.decay, 1.0)


def constant(progress: float) -> float:
    """Return the factor 1."""
    return 1.0


@dataclass(frozen=True)
class WarmUp:
    """A linear rise from 0 to 1, then 1.

    Args:
        warmup: Share of training in which the factor rises, in (0, 1).

    Raises:
        ValueError: If warmup is outside (0, 1).
    """

    warmup: float

    def __post_init__(self) -> None:
        finite(warmup=self.warmup)
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup must lie between 0 and 1, got {self.warmup}")

    def __call__(self, progress: float) -> float:
        """Compute the factor at a share `progress` of training."""
        return min(progress / self.warmup, 1.0)
