"""The divergence of a velocity, tr(dv/dx): exact, or estimated with random probes, by forward mode or by differences.

A divergence is called as `v, divergence = trace(velocity, x, probes)` for a function of the state alone. The probes are
drawn apart, by `trace.draw(x)`, because a solver with adaptive steps must see one function: it keeps the same probes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..arguments import at_least, positive
from ..derivative import along_many

Field = Callable[[Tensor], Tensor]
"""A function of the state, (B, ...) -> (B, ...)."""

EXACT = 64
"""Number of values in a row up to which the exact trace is the default."""


class Divergence(Protocol):
    """The trace of a Jacobian, exact or estimated."""

    @property
    def estimates(self) -> int:
        """Number of estimates for each row, P. Their spread is the standard error; 1 for the exact trace."""
        ...

    @property
    def fresh(self) -> bool:
        """Whether each evaluation on a fixed grid draws its own directions."""
        ...

    def draw(self, x: Tensor) -> Tensor:
        """Directions for states like x, (K, B, ...)."""
        ...

    def __call__(self, field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """The value of a field and one estimate of its divergence for each set of probes, (B, P)."""
        ...

    def passes(self, values: int) -> int:
        """Number of forward passes of a row with this number of values, with the value of the field."""
        ...


@dataclass(frozen=True)
class ExactTrace:
    """The exact divergence: the derivative along each of the D coordinates of a row.

    It costs 1 + D forward passes, because derivatives that are computed together share the value of the network.

    Args:
        chunk: Number of coordinates at a time. 1 takes `derivative.jvp`, for networks that `torch.func` cannot follow.

    Raises:
        ValueError: The chunk is less than 1.
    """

    chunk: int = 16
    estimates: ClassVar[int] = 1
    fresh: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(1, chunk=self.chunk)

    def draw(self, x: Tensor) -> Tensor:
        """The unit vectors, (D, 1, ...); nothing is random."""
        return units(x)

    def __call__(self, field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """The value of a field and its divergence.

        Args:
            field: Function of the state.
            x: States, (B, ...).
            probes: The unit vectors.

        Returns:
            The value, of x's shape, and the divergence, (B, 1).
        """
        value, parts = along_many(field, x, probes, self.chunk)
        return value, _inner(parts, probes).sum(0)[:, None]

    def passes(self, values: int) -> int:
        """Number of forward passes, 1 + D."""
        return 1 + values


class _WithSigns:
    """The part that estimates with random signs share: their probes."""

    probes: int

    @property
    def estimates(self) -> int:
        """Number of estimates for each row, one for each probe."""
        return self.probes

    def draw(self, x: Tensor) -> Tensor:
        """Random signs, (probes, B, ...), from torch's generator of the CPU."""
        signs = torch.randint(0, 2, (self.probes, *x.shape), dtype=torch.int8) * 2 - 1
        return signs.to(x)


@dataclass(frozen=True)
class Hutchinson(_WithSigns):
    """Hutchinson's estimate of the divergence, z . (dv/dx z), with random signs z.

    It costs 1 + `probes` forward passes. The variance of one estimate is 2 (|J|^2 - sum J_ii^2) for the symmetric part
    J of the Jacobian; Gaussian probes would have 2 |J|^2. Hutchinson 1990.

    Args:
        probes: Number of probes, each an estimate of its own. Two or more tell the standard error.
        fresh: Whether each step of a solver on a fixed grid draws new probes, whose errors cancel out over the steps.
            False: one draw for the whole way. A solver with adaptive steps always keeps one draw.
        chunk: Number of probes at a time. 1 takes `derivative.jvp`, for networks that `torch.func` cannot follow.

    Raises:
        ValueError: There is less than one probe.
    """

    probes: int = 4
    fresh: bool = True
    chunk: int = 16

    def __post_init__(self) -> None:
        at_least(1, probes=self.probes, chunk=self.chunk)

    def __call__(self, field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """The value of a field and an estimate of its divergence for each probe.

        Args:
            field: Function of the state.
            x: States, (B, ...).
            probes: The signs.

        Returns:
            The value, of x's shape, and the estimates, (B, probes).
        """
        value, parts = along_many(field, x, probes, self.chunk)
        return value, _inner(parts, probes).T

    def passes(self, values: int) -> int:
        """Number of forward passes, 1 + the number of probes."""
        return 1 + self.probes


@dataclass(frozen=True)
class Differences(_WithSigns):
    """Hutchinson's estimate without a derivative, z . (v(x + h z) - v(x - h z)) / 2h, with random signs z.

    It costs 1 + 2 `probes` forward passes, and suits every velocity that can be called: a network that forward mode
    cannot follow, a steered velocity, an exported or a compiled network.

    Args:
        probes: Number of probes, each an estimate of its own. Two or more tell the standard error.
        h: Step in units of the state. The error of the formula falls like h^2, and rounding grows like 1/h. 1e-2 suits
            float32, 1e-3 suits float64.
        fresh: Whether each step of a solver on a fixed grid draws new probes, as in `Hutchinson`.

    Raises:
        ValueError: There is less than one probe, or h is not positive.
    """

    probes: int = 4
    h: float = 1e-2
    fresh: bool = True

    def __post_init__(self) -> None:
        at_least(1, probes=self.probes)
        positive(h=self.h)

    def __call__(self, field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """The value of a field and an estimate of its divergence for each probe.

        Args:
            field: Function of the state.
            x: States, (B, ...).
            probes: The signs.

        Returns:
            The value, of x's shape, and the estimates, (B, probes).
        """
        value, estimates = field(x), []
        for z in probes:
            slope = (field(x + self.h * z) - field(x - self.h * z)) / (2 * self.h)
            estimates.append(_inner(slope[None], z[None])[0])
        return value, torch.stack(estimates, 1)

    def passes(self, values: int) -> int:
        """Number of forward passes, 1 + 2 times the number of probes."""
        return 1 + 2 * self.probes


def _inner(slopes: Tensor, directions: Tensor) -> Tensor:
    """Inner products of derivatives with their directions, (K, B), summed in float32 at least."""
    wide = torch.promote_types(slopes.dtype, torch.float32)
    return (slopes.to(wide) * directions.to(wide)).flatten(2).sum(2)


def usual(values: int) -> Divergence:
    """The exact divergence for rows of at most `EXACT` values, else Hutchinson's estimate."""
    return ExactTrace() if values <= EXACT else Hutchinson()


def jacobian(function: Field, x: Tensor, chunk: int = 16) -> tuple[Tensor, Tensor]:
    """The Jacobian of a function of each row, such as a jump.

    Args:
        function: Function of the state, (B, ...) -> (B, ...).
        x: States, (B, ...).
        chunk: Number of coordinates at a time, as in `ExactTrace`.

    Returns:
        The value, of x's shape, and the Jacobian, (B, D, D): the derivative of output i in input j at [:, i, j].
    """
    value, columns = along_many(function, x, units(x), chunk)
    return value, columns.flatten(2).permute(1, 2, 0)


def units(x: Tensor) -> Tensor:
    """The unit vectors of a row, (D, 1, ...)."""
    values = x[0].numel()
    return torch.eye(values, dtype=x.dtype, device=x.device).reshape(values, 1, *x.shape[1:])
