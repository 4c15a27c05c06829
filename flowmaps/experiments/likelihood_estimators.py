"""Estimators of log-densities by their names, such as jumps:4, and the runs that they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import likelihood
from ..arguments import did_you_mean, shown
from ..flow_map import FlowMap, check_velocity
from ..likelihood.by_jumps import refuse_untrained
from ..likelihood.result import refuse_curved
from ..likelihood.solvers import Grid, rk4
from ..steps import jump
from ..velocity.divergence import usual
from ..velocity.joint import joint_network

EXACT = 16
"""Number of values in a row up to which the exact trace is usual."""
TIMES_OF_A_STEP = 4
"""Evaluations of one step of the classical Runge-Kutta rule."""


@dataclass(frozen=True)
class Named:
    """An estimator with its name.

    Attributes:
        name: The name, such as "jumps:4".
        estimate: The estimator.
    """

    name: str
    estimate: likelihood.Estimator


FORMS: dict[str, tuple[int, str, Callable[[int], likelihood.Estimator]]] = {
    "ode": (50, "steps", lambda n: likelihood.ode(steps=n)),
    "exact": (50, "steps", lambda n: likelihood.ode(likelihood.exact(), steps=n)),
    "hutchinson": (8, "probes", lambda n: likelihood.ode(likelihood.hutchinson(n))),
    "jumps": (1, "steps", lambda n: likelihood.jumps(n)),
    "joint": (1, "steps", lambda n: likelihood.joint(n)),
    "bound": (64, "draws", lambda n: likelihood.bound(n)),
    "tokens": (16, "draws", lambda n: likelihood.tokens(n)),
}
"""Name: the usual number, its meaning, and the function that makes the estimator."""


def usual_for(values: int) -> str:
    """The usual estimator for rows with this number of values; beyond `EXACT` random probes are cheaper."""
    return "ode" if values <= EXACT else "hutchinson"


def estimators_of(by: Any) -> list[Named]:
    """Read the estimators of an experiment.

    Args:
        by: A name, an estimator, or several of them: "ode", "ode:100", "hutchinson:8", "jumps:4", ...

    Returns:
        The estimators with their names, each once; a second one of the same name has a number.

    Raises:
        TypeError: Something is neither a name nor an estimator.
        ValueError: There is no such name, its number is wrong, or there are no estimators.
    """
    several = by if isinstance(by, list | tuple) else [by]
    found = [_one(item) for item in several]
    if not found:
        raise ValueError(f"`by` needs an estimator, such as ode or jumps:4, got {shown(by)}")
    named: dict[str, Named] = {}
    for one in found:
        count = 1
        while (name := one.name if count == 1 else f"{one.name}_{count}") in named and named[
            name
        ].estimate != one.estimate:
            count += 1
        named.setdefault(name, Named(name, one.estimate))
    return list(named.values())


def _one(item: Any) -> Named:
    """One estimator."""
    if callable(item) and not isinstance(item, type):
        return Named(_name_of(item), item)
    if not isinstance(item, str):
        raise TypeError(f"`by` takes names such as ode or jumps:4, or estimators of fm.likelihood, got {shown(item)}")
    name, colon, text = item.partition(":")
    if name not in FORMS:
        raise ValueError(f"unknown estimator {item!r}{did_you_mean(name, FORMS)}; known are {', '.join(FORMS)}")
    usual_number, what, make = FORMS[name]
    if colon and not (text.isdecimal() and 0 < int(text) < 10**6):
        raise ValueError(
            f"{name} takes its number of {what} after a colon, such as {name}:{usual_number}, got {item!r}"
        )
    number = int(text) if colon else usual_number
    return Named(f"{name}:{number}", make(number))


def _name_of(estimate: Any) -> str:
    """A name for an estimator that is given as an object."""
    for kind, name in ((likelihood.Jumps, "jumps"), (likelihood.Joint, "joint")):
        if isinstance(estimate, kind):
            return f"{name}:{len(estimate.times) - 1}"
    for bound, name in ((likelihood.Bound, "bound"), (likelihood.TokenBound, "tokens")):
        if isinstance(estimate, bound):
            return f"{name}:{estimate.draws}"
    return getattr(estimate, "__name__", type(estimate).__name__.lower())


def check_fits(one: Named, flow: FlowMap, guided: bool = False) -> None:
    """Refuse an estimator that a run cannot have, before anything is computed.

    Args:
        one: The estimator.
        flow: The flow map of the run.
        guided: Whether its velocity is guided, so that its jumps are not the ones of this velocity.

    Raises:
        ValueError: The flow map has no velocity, or was not trained for the estimator.
    """
    if isinstance(one.estimate, likelihood.Bound | likelihood.TokenBound):
        refuse_curved(flow, "variational bounds")
    if isinstance(one.estimate, likelihood.Ode | likelihood.Bound | likelihood.TokenBound):
        check_velocity(flow, f"{one.name} follows the velocity")
        trained = flow.trained
        if trained is not None and (reason := trained.warning_of_times(0.5, 0.5) or trained.warning_of_ode) is not None:
            raise ValueError(f"{one.name} follows the velocity: {reason}")
    elif guided:
        raise ValueError(f"a guided velocity has no jumps, so {one.name} is not possible: take ode, or no `guidance`")
    elif isinstance(one.estimate, likelihood.Jumps):
        refuse_untrained(flow, one.estimate.times, one.estimate.step)
    elif isinstance(one.estimate, likelihood.Joint):
        refuse_curved(flow, "joint maps")
        if joint_network(flow) is None:
            raise ValueError(
                f"{one.name} reads the log-density from the map itself, and this run is no joint map of state and "
                "log-density: train one by the method f2d2, or take ode or jumps"
            )
        refuse_untrained(flow, one.estimate.times, jump)


def notes_of(estimators: Sequence[Named]) -> list[str]:
    """Sentences about estimators that are no log-densities of the flow's ODE."""
    found = []
    for one in estimators:
        if isinstance(one.estimate, likelihood.Bound):
            found.append(f"{one.name} is a bound: it lies below the log-density, in the mean over rows")
        if isinstance(one.estimate, likelihood.Joint):
            found.append(f"{one.name} has no guarantee: compare it with ode or exact in the same table")
    return found


def passes_of(estimate: Any, values: int) -> int | None:
    """Number of forward passes of a row, before it is known from the result; None for estimators of other kinds.

    Args:
        estimate: The estimator.
        values: Number of values in a row.

    Returns:
        The number.
    """
    if isinstance(estimate, likelihood.Jumps):
        return (len(estimate.times) - 1) * (1 + values)
    if isinstance(estimate, likelihood.Joint):
        return len(estimate.times) - 1
    if isinstance(estimate, likelihood.Bound):
        return estimate.draws
    if isinstance(estimate, likelihood.Ode) and isinstance(estimate.solver, Grid) and estimate.solver.rule is rk4:
        trace = usual(values) if estimate.divergence is None else estimate.divergence
        return TIMES_OF_A_STEP * estimate.solver.steps * trace.passes(values)
    return None


def matrix_values(estimators: Sequence[Named], values: int) -> int:
    """Number of values in the largest matrix of a row: jumps have a Jacobian."""
    return values**2 if any(isinstance(one.estimate, likelihood.Jumps) for one in estimators) else values
