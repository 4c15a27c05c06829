"""Sampling is a composition of steps:  for s, t in pairs(times): x = step(flow, x, s, t)."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .arguments import at_least, check_seed, expect_floating, numbered, refuse_written, shown, version
from .flow_map import like_weights
from .path import linear
from .steps import Step, heun, jump, named
from .units import units_of

HEUN_STEPS = 64
"""Steps of an inversion that follows the velocity, if their number is not given."""
Condition = Tensor | Mapping[str, Any] | None


def by_name(condition: Condition) -> dict[str, Any]:
    """The conditions by name: a tensor means {"label": tensor}, None means no condition.

    Args:
        condition: A tensor, conditions by name, or None.

    Returns:
        The conditions.

    Raises:
        TypeError: It is something else.
    """
    if condition is None or isinstance(condition, Tensor):
        return {} if condition is None else {"label": condition}
    if not isinstance(condition, Mapping) or not all(isinstance(name, str) for name in condition):
        raise TypeError(
            "a condition is a tensor of labels, or conditions by name such as {'label': labels}, got "
            f"{shown(condition)}"
        )
    return dict(condition)


def noise(flow: Any, n: int, *, shape: int | Sequence[int] | None = None, seed: int | None = None) -> Tensor:
    """Draw noise to sample from: sigma(1) times standard normal numbers, on the device and in the dtype of the weights.

    Args:
        flow: The flow map.
        n: Number of rows.
        shape: Shape of one row. None: the shape that the map was trained on, or the one of its network.
        seed: Seed; the numbers do not depend on the device then, and the global generator is left alone. None: the
            numbers are drawn from the global generator of the CPU.

    Returns:
        The noise, (n, *shape), for `fm.sample(flow, noise)`.

    Raises:
        TypeError: The flow map is something else.
        ValueError: There is less than one row, or the shape is not known.
    """
    at_least(1, n=n)
    known = (getattr(part, "shape", None) for part in (getattr(flow, "trained", None), getattr(flow, "network", flow)))
    chosen = next((one for one in (shape, *known) if isinstance(one, int | Sequence)), None)
    if chosen is None:
        raise ValueError("the shape of a row is not known from this flow map: pass shape=, such as shape=(3, 32, 32)")
    rows = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    at_least(1, **numbered(shape=rows))
    if seed is not None:
        check_seed(seed)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    x = torch.randn(n, *rows, generator=generator)
    like = getattr(flow, "like", x)
    return x.mul_(getattr(flow, "path", linear).sigma(torch.ones(()))).to(like)


def placed(flow: Any, value: Any) -> Any:
    """Move a state or a condition to the device of a model's weights, and floating-point numbers to their dtype.

    Numbers are not rounded to half precision: a network with such weights may compute its states in float32.

    Args:
        flow: The model.
        value: The tensor; anything else is returned as it is.

    Returns:
        The tensor; the same one if it is in place.

    Raises:
        ValueError: It has no values, and the weights have some.
    """
    like = like_weights(flow)
    if like is None or not isinstance(value, Tensor):
        return value
    if value.is_meta and not like.is_meta:
        raise ValueError(f"a tensor on the meta device has no values, and the weights are on {like.device}")
    cast = value.is_floating_point() and torch.promote_types(like.dtype, torch.float32) == like.dtype
    return value.to(like.device, like.dtype if cast else None)


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
            contradict the number of steps, there are fewer than two times or less than one step, a condition has
            another number of rows, or a partial map does not know the steps. With only_target=0 it takes one jump, or
            several `steps.restart`; with only_source=1 exactly one jump.
    """
    _check_noise(noise)
    grid, step = _descending(steps, times), named(step)
    if batch_size is None:
        return _last(_states(flow, noise, grid, step, condition, seed))
    noise = placed(flow, standardised(flow, noise, grid[0]))  # units keep digits that the dtype of the weights loses
    condition = {name: placed(flow, one) for name, one in by_name(condition).items()}
    known = {**(getattr(flow, "condition", None) or {}), **condition}
    _check_rows(known, len(noise))

    def bound(rows: slice) -> Any:
        here = {name: rows_of(value, rows) for name, value in known.items()}
        return _given(flow, here, len(noise[rows]))

    return restored(flow, sample_(bound, noise.clone(), grid, step, seed, batch_size), grid[-1])


@torch.no_grad()
def sample_(
    flow: Callable[[slice], Any], x: Tensor, times: Sequence[float], step: Step, seed: int | None, batch_size: int
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

    Returns:
        x.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    at_least(1, batch_size=batch_size)
    with _seeded(seed, x.device):
        for s, t in pairwise(times):
            for start in range(0, len(x), batch_size):
                rows = slice(start, start + batch_size)
                x[rows] = _stepped(step, flow(rows), x[rows], s, t)
    return x


def rows_of(value: Any, rows: slice) -> Any:
    """Select some rows of a condition; a value without rows, or with one row for all, is returned unchanged."""
    return value[rows] if isinstance(value, Tensor) and value.ndim and len(value) != 1 else value


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
    _check_noise(noise)
    return list(_states(flow, noise, _descending(steps, times), named(step), condition, seed))


def invert(
    flow: Any,
    x0: Tensor,
    steps: int | None = None,
    *,
    times: Sequence[float] | None = None,
    step: Step | str | None = None,
    condition: Condition = None,
) -> Tensor:
    """Invert sampling: take data to its noise in deterministic steps from t = 0 to t = 1.

    Args:
        flow: A FlowMap, an exact distribution or a teacher.
        x0: Data, (B, ...).
        steps: Number of equal steps. None: 1 jump, or 64 steps of `steps.heun`.
        times: Times of the states instead, from data to noise.
        step: Deterministic step from `flowmaps.steps`, or its name. None: jumps, or `steps.heun` with a warning for a
            map that was trained (`flow.trained`) in the other direction alone; `times.both_directions` trains both.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.

    Returns:
        The noise, of the shape of the data.

    Raises:
        ValueError: As in `sample`, the times go from noise to data, or neither jumps towards noise nor the velocity
            were trained.
    """
    check_state("x0", x0)
    step = _inverting(flow, steps, times) if step is None else named(step)
    count = HEUN_STEPS if step is heun and steps is None and times is None else steps
    return _last(_states(flow, x0, _ascending(count, times), step, condition, None))


def _inverting(flow: Any, steps: int | None, times: Sequence[float] | None) -> Step:
    """Choose the step of an inversion: jumps, unless the map was trained and has not learned them."""
    trained = getattr(flow, "trained", None)
    if trained is None:
        return jump
    wrong = next(filter(None, (trained.warning_of_times(s, t) for s, t in pairwise(_ascending(steps, times)))), None)
    if wrong is None:
        return jump
    if not trained.velocity:
        raise ValueError(f"this flow map cannot be inverted, because its velocity is untrained too: {wrong}")
    flow.warn_once(
        "this flow map was not trained on jumps from data to noise, so it is inverted along its velocity, by "
        f"steps.heun (steps={steps or HEUN_STEPS}). Pass step= to choose, or train with times=fm.times.both_directions("
        "...) to invert by jumps",
        stacklevel=4,
    )
    return heun


def interpolate(
    flow: Any,
    a: Tensor,
    b: Tensor,
    n: int = 8,
    steps: int | None = None,
    *,
    step: Step | str | None = None,
    condition: Condition = None,
) -> Tensor:
    """Interpolate between data through noise space: invert both ends, follow the great circle, sample back.

    Args:
        flow: A FlowMap, an exact distribution or a teacher; see `invert`.
        a: Data at the start, (B, ...).
        b: Data at the end, of the same shape.
        n: Number of points, with both ends.
        steps: Number of equal steps of each inversion and each sampling. None: 1 jump, or 64 steps of `steps.heun`.
        step: Deterministic step from `flowmaps.steps`, or its name. None: jumps where they were trained, else
            `steps.heun`; see `invert`.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.

    Returns:
        The points, (n, B, ...).

    Raises:
        ValueError: As in `invert`.
    """
    at_least(1, n=n)
    check_state("a", a)
    check_state("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    start, end = (invert(flow, x, steps, step=step, condition=condition) for x in (a, b))
    trained = getattr(flow, "trained", None)
    down = named(step or (jump if trained is None or trained.jumps else heun))
    count = HEUN_STEPS if down is heun and steps is None else steps
    return torch.stack(
        [
            sample(flow, slerp(start, end, w), count, step=down, condition=condition)
            for w in torch.linspace(0, 1, n).tolist()
        ]
    )


def slerp(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Spherical interpolation between the rows of a and b; it keeps the norm of Gaussian noise.

    Args:
        a: Rows at the start, (B, ...).
        b: Rows at the end, of the same shape.
        w: Position; 0 is a, 1 is b.

    Returns:
        The rows in between, (B, ...).
    """
    x, y = a.flatten(1), b.flatten(1)
    cosine = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    angle = torch.acos(cosine.clamp(-1, 1))[:, None]
    # the chord if sin(angle) has no digits left: it is the arc between equal directions; between opposite directions
    # (the only ones of one coordinate) no arc is singled out
    straight = angle.sin() < 1e-4
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    p = torch.where(straight, 1 - w + 0 * angle, torch.sin((1 - w) * angle) / sine)
    q = torch.where(straight, w + 0 * angle, torch.sin(w * angle) / sine)
    return (p * x + q * y).reshape(a.shape)


def standardised(flow: Any, x: Tensor, t: float) -> Tensor:
    """The standardised state of a state at time t in the units of the flow, as samplers take it."""
    units = units_of(flow)
    return x if units is None or t == 1 else units.standardised(x)


def restored(flow: Any, z: Tensor, t: float) -> Tensor:
    """The state at time t in the units of the flow, as samplers return it, of a standardised one."""
    units = units_of(flow)
    return z if units is None or t == 1 else units.restored(z)


def _descending(steps: int | None, times: Sequence[float] | None) -> list[float]:
    """The times of sampling, from noise to data."""
    grid = time_grid(steps, times)
    if grid[0] < grid[-1]:
        raise ValueError(
            f"sampling goes from noise, t = 1, to data, t = 0, and these times go the other way, {grid}: reverse them, "
            "or go from data to noise by fm.invert"
        )
    return grid


def _ascending(steps: int | None, times: Sequence[float] | None) -> list[float]:
    """The times of an inversion, from data to noise."""
    grid = time_grid(steps)[::-1] if times is None else time_grid(steps, times)
    if grid[0] > grid[-1]:
        raise ValueError(
            f"inversion goes from data, t = 0, to noise, t = 1, and these times go the other way, {grid}: reverse "
            "them, or go from noise to data by fm.sample"
        )
    return grid


def time_grid(steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
    """Times of a sampler: 1, 1 - 1/steps, ..., 0, or the given ones, checked.

    Args:
        steps: Number of equal steps. None: 1, or as many as there are times.
        times: Times in [0, 1], at least two.

    Returns:
        The times.

    Raises:
        TypeError: The number of steps is no whole number, or a time no number.
        ValueError: There is less than one step or there are fewer than two times, a time is outside [0, 1], or the
            times do not have this number of steps.
    """
    if steps is not None:
        at_least(1, steps=steps)
    if times is None:
        steps = 1 if steps is None else steps
        return [1 - k / steps for k in range(steps)] + [0.0]
    if isinstance(times, str | bytes) or not isinstance(times, Iterable):
        raise TypeError(f"times must be a list of numbers, such as [1.0, 0.5, 0.0], got {shown(times)}")
    chosen = [_time(t) for t in times]
    if len(chosen) < 2:
        raise ValueError(f"sampling needs at least two times, a start and an end, got {chosen}")
    bad = [t for t in chosen if not 0 <= t <= 1]
    if bad:
        raise ValueError(f"times must lie in [0, 1] (0 is data, 1 is noise), got {bad[0]:g}")
    if steps is not None and steps != len(chosen) - 1:
        raise ValueError(
            f"steps={steps} and times={chosen} contradict each other: {len(chosen)} times are {len(chosen) - 1} steps. "
            "Pass one of them"
        )
    return chosen


def _time(t: Any) -> float:
    """A time as a number."""
    try:
        if isinstance(t, str | bytes | bool):
            raise TypeError
        return float(t)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"a time must be a number, got {shown(t)}") from None


def _check_noise(x: Any) -> None:
    """Check the noise that sampling starts from, which is no number of samples and no shape."""
    if isinstance(x, int | torch.Size) or (isinstance(x, list | tuple) and all(isinstance(one, int) for one in x)):
        raise TypeError(
            f"noise must be a tensor (B, ...) of random numbers, got {shown(x)}: fm.noise(flow, n) draws n rows of it"
        )
    check_state("noise", x)


def check_state(name: str, x: Any) -> None:
    """Check the state that sampling starts from; no value is read.

    Args:
        name: Its name in the message.
        x: The state, (B, ...).

    Raises:
        TypeError: It is no tensor.
        ValueError: It is not floating-point: whole numbers would stay whole numbers at every step.
    """
    expect_floating(name, x)


def _last(states: Iterable[Tensor]) -> Tensor:
    """The last state; the others are not kept."""
    return deque(states, maxlen=1)[0]


@torch.no_grad()
def _states(
    flow: Any, x: Tensor, times: Sequence[float], step: Step, condition: Condition, seed: int | None
) -> Iterator[Tensor]:
    first, x = placed(flow, x), placed(flow, standardised(flow, x, times[0]))
    flow = _given(flow, {name: placed(flow, value) for name, value in by_name(condition).items()}, len(x))
    with _seeded(seed, x.device):
        yield first
        for s, t in pairwise(times):
            x = _stepped(step, flow, x, s, t)
            yield restored(flow, x, t)


def _given(flow: Any, condition: Mapping[str, Any], rows: int) -> Any:
    """Bind a condition to a flow, after a check of its rows."""
    if not condition:
        return flow
    _check_rows(condition, rows)
    if not hasattr(flow, "given"):
        raise TypeError(f"{type(flow).__name__} takes no condition: it has no method given(**condition)")
    return flow.given(**condition)


def _check_rows(condition: Mapping[str, Any], rows: int) -> None:
    """Check that conditions have one row, or one for each row of the state."""
    for name, value in condition.items():
        if isinstance(value, Tensor) and value.ndim and len(value) not in (1, rows):
            raise ValueError(f"the condition {name!r} needs a row for each of {rows}, got {tuple(value.shape)}")


def _stepped(step: Step, flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """The state after a step, which must be a new tensor of the same shape."""
    before = version(x)
    after = step(flow, x, s, t)
    refuse_written("the flow or its step", x, before)
    if getattr(after, "shape", None) != x.shape:
        got = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
        raise ValueError(f"a step must return a tensor of the shape of x, {tuple(x.shape)}, got {got}")
    return after


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    if seed is None:
        yield
        return
    check_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # a separate stream: with the same seed the first step would draw the noise that sampling starts from
        torch.manual_seed(seed ^ 0x5D588B656C078965)
        yield
