"""A sampler is a composition of steps:  for s, t in pairs(times): x = step(flow, x, s, t)."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, check_seed
from ..draws import seeded_by
from ..flow_map import like_weights
from ..path import linear
from ..steps import Step, jump, named
from .grid import descending
from .in_order import makes_sequences, sequences, stepped
from .states import (
    Condition,
    bound_to,
    bound_to_rows,
    by_name,
    check_noise,
    conditions_of,
    placed,
    prepared,
    restored,
    standardised,
)


def sample(
    flow: Any,
    noise: Tensor,
    steps: int | None = None,
    *,
    times: Sequence[float] | None = None,
    step: Step | str = jump,
    condition: Condition = None,
    seed: int | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Sample: take noise to data in `steps` equal jumps from t = 1 to t = 0, or along `times`.

    If the flow map has units, states at t = 1 are standard noise, and states at every other time have the units of the
    data.

    Args:
        flow: A FlowMap, an exact distribution or a teacher.
        noise: State at the first time, (B, ...): standard normal, times `sigma_max` on a variance-exploding path, as
            `noise` makes it. It is moved to the device and dtype of the weights, but never rounded to half precision.
        steps: Number of equal steps. None: 1.
        times: Times of the states instead, from noise to data, such as [1.0, 0.5, 0.0].
        step: Step from `flowmaps.steps`, or its name; a jump by default. `steps=100, step="euler"` is the 100-step ODE.
        condition: Keyword arguments of the network beside x, s and t, which are moved like the noise. A tensor means
            {"label": tensor}.
        seed: Seed of stochastic steps; the global generator is left alone. None: they draw from it.
        batch_size: Rows that the network computes at a time, which bounds its memory. None: all.

    Returns:
        The samples, of the shape of the noise.

    Raises:
        TypeError: The noise is no tensor, a time or the number of steps is no number, or the flow has no such step.
        ValueError: The noise is not floating-point, a time is outside [0, 1] or NaN, the times go from data to noise or
            contradict the number of steps, there are fewer than two times or less than one step, the noise is off the
            manifold of the path, a condition has another number of rows, or a partial map does not know the steps. With
            only_target=0 it takes one jump, or several `steps.restart`; with only_source=1 exactly one jump.
    """
    check_noise(noise)
    grid, step = descending(steps, times), named(step)
    if batch_size is None:
        return last(states_of(flow, noise, grid, step, condition, seed))
    getattr(flow, "path", linear).expect("noise", noise)
    like = like_weights(flow)
    noise = placed(like, standardised(flow, noise, grid[0]))  # units keep digits that the dtype of the weights loses
    known = conditions_of(flow, condition, len(noise))

    def bound(rows: slice) -> Any:
        return bound_to_rows(flow, known, noise, rows)

    return restored(flow, sample_(bound, noise.clone(), grid, step, seed, batch_size), grid[-1])


@torch.no_grad()
def sample_(
    flow: Callable[[slice], Any],
    x: Tensor,
    times: Sequence[float],
    step: Step,
    seed: int | None,
    batch_size: int,
    watch: Callable[[float, Tensor], object] | None = None,
) -> Tensor:
    """Sample in place, a few rows at a time.

    All rows take a step before any row takes the next one, so that random steps draw their numbers in the order in
    which they draw them for all rows at once. On the CPU these are the same numbers if a batch has a multiple of 16
    values.

    Args:
        flow: Function from rows to the flow map, bound to their conditions.
        x: State at the first time, (B, ...); it becomes the samples.
        times: Times of the states, as `time_grid` checks them.
        step: Step from `flowmaps.steps`.
        seed: Seed of stochastic steps, as in `sample`.
        batch_size: Rows at a time.
        watch: Function of a time and the states of all rows then, which is called after each step; the next step
            overwrites them. Models that make sequences frame by frame have no such states.

    Returns:
        x.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    at_least(1, batch_size=batch_size)
    parts = [slice(start, start + batch_size) for start in range(0, len(x), batch_size)]
    with seeding(seed, x.device):
        flows = [flow(rows) for rows in parts]
        if flows and makes_sequences(flows[0]):
            for rows, one in zip(parts, flows, strict=True):
                x[rows] = sequences(one, x[rows], times, step)[-1]
            return x
        flows = list(map(prepared, flows))
        for s, t in pairwise(times):
            for rows, one in zip(parts, flows, strict=True):
                x[rows] = stepped(step, one, x[rows], s, t)
            if watch is not None:
                watch(t, x)
    return x


def trajectory(
    flow: Any,
    noise: Tensor,
    steps: int | None = None,
    *,
    times: Sequence[float] | None = None,
    step: Step | str = jump,
    condition: Condition = None,
    seed: int | None = None,
) -> list[Tensor]:
    """Sample, and return the states on the way.

    Args:
        flow: A FlowMap, an exact distribution or a teacher.
        noise: State at the first time, (B, ...).
        steps: Number of equal steps. None: 1.
        times: Times of the states instead, from noise to data.
        step: Step from `flowmaps.steps`, or its name.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.
        seed: Seed of stochastic steps.

    Returns:
        The states, steps + 1 tensors (B, ...); the first is the noise.

    Raises:
        ValueError: As in `sample`.
    """
    check_noise(noise)
    return list(states_of(flow, noise, descending(steps, times), named(step), condition, seed))


def last(states: Iterable[Tensor]) -> Tensor:
    """The last state; the others are not kept."""
    return deque(states, maxlen=1)[0]


@torch.no_grad()
def states_of(
    flow: Any, x: Tensor, times: Sequence[float], step: Step, condition: Condition, seed: int | None
) -> Iterator[Tensor]:
    """Iterate over the states, the first one included, in the units of the flow; no gradient is kept."""
    like = like_weights(flow)
    getattr(flow, "path", linear).expect("the state", x)
    first, x = placed(like, x), placed(like, standardised(flow, x, times[0]))
    flow = bound_to(flow, {name: placed(like, value) for name, value in by_name(condition).items()}, len(x))
    with seeding(seed, x.device):
        if makes_sequences(flow):
            for state, t in zip(sequences(flow, x, times, step), times, strict=True):
                yield restored(flow, state, t)
            return
        flow = prepared(flow)
        yield first
        for s, t in pairwise(times):
            x = stepped(step, flow, x, s, t)
            yield restored(flow, x, t)


@contextlib.contextmanager
def seeding(seed: int | None, device: torch.device) -> Iterator[None]:
    """Seed the random steps of a sampler inside a `with` block; without a seed they draw from the global generator."""
    if seed is None:
        yield
        return
    check_seed(seed)
    # a separate stream: with the same seed the first step would draw the noise that sampling starts from
    with seeded_by(device, seed ^ 0x5D588B656C078965):
        yield
