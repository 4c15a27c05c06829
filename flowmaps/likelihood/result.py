"""Log-densities, and the interface of their estimators."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import brief_repr
from ..flow_map import check_velocity
from ..path import Path, linear

PURE = 0.01
"""alpha/sigma at t = 1, the data beside the noise, above which the density of the noise is said to be approximate."""


@dataclass(frozen=True)
class LogProb:
    """Log-density of each row.

    Attributes:
        value: The log-density in nats, (B,), in the units of the data. NaN in rows without a density, see `folded`.
        noise: The noise that a row leads to, (B, ...). None: the estimator follows no path.
        standard_error: Standard error of each value over probes or draws, (B,). None: the estimator is deterministic,
            or has a single probe.
        passes: Forward passes of the network for one row; a derivative that shares the value counts as one.
        folded: Number of steps of each row whose Jacobian has no positive determinant, (B,). The map is no invertible
            map there, so the row has no density. None: the estimator computes no determinants.
    """

    value: Tensor
    noise: Tensor | None = None
    standard_error: Tensor | None = None
    passes: int = 0
    folded: Tensor | None = None

    __repr__ = brief_repr


Estimator = Callable[[Any, Tensor], LogProb]
"""(flow with its condition bound, standardised rows x0) -> their log-densities as standardised rows."""


def log_noise(flow: Any, z: Tensor) -> Tensor:
    """Log-density of noise: N(z; 0, sigma(1)^2 I), or the prior of a manifold.

    Args:
        flow: The flow, whose path has the standard deviation, or the manifold.
        z: Noise, (B, ...).

    Returns:
        Nats, (B,). A path with more than `PURE` of the data in them warns.
    """
    path = path_of(flow)
    if not path.curved:
        one = torch.ones((), dtype=torch.float64)
        std, kept = float(path.sigma(one)), float(path.alpha(one))
        if kept > PURE * std:
            warn(
                f"on this path the state at t = 1 is {kept:.3g} x0 + {std:.3g} eps, and not noise alone: log-densities "
                f"take it as N(0, {std:.3g}^2), an approximation that is good where the data are small beside {std:.3g}"
            )
    return path.log_prior(z)


def path_of(flow: Any) -> Path:
    """The path of a flow; the linear one if it tells none."""
    return getattr(flow, "path", None) or linear


def refuse_curved(flow: Any, what: str) -> None:
    """Refuse a flow on a manifold; `what` is a formula of flat space, which starts the message."""
    if (path := path_of(flow)).curved:
        raise ValueError(
            f"{what} are formulas of flat space, and this flow has the path {path}: take the estimators ode or jumps"
        )


def warn(sentence: str) -> None:
    """Warn at the line outside of this library and of torch that led here."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("flowmaps", "torch"):
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, stacklevel=level)


def expect_velocity(flow: Any, need: str) -> None:
    """Refuse a flow whose velocity is no velocity of a law: a partial map, or weights that were trained on jumps alone.

    Args:
        flow: The flow.
        need: The caller's need, to start the message.

    Raises:
        TypeError: The flow has no velocity.
        ValueError: It is a partial map, or its velocity was not trained.
    """
    check_velocity(flow, need)
    trained = getattr(flow, "trained", None)
    if trained is not None and (reason := trained.warning_of_times(0.5, 0.5) or trained.warning_of_ode) is not None:
        raise ValueError(f"{need}, and {reason}")
