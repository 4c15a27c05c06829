"""Motion of video clips: the mean absolute difference of neighbouring frames, beside the distances.

A distilled video model may give sharp frames that hardly move, and distances that see frames one by one do not notice.
Clips are (N, C, F, H, W), pixels or latents. A frozen clip has motion 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, check_seed, expect_finite
from ..data import Data
from ..data.labels import condition_of, uses_labels
from ..flow_map import FlowMap, expect_flow
from ..sampling import sample
from ..steps import default, euler
from .distances import Estimate
from .measures import Draws, Measure, is_measurable


def has_frames(shape: Sequence[int]) -> bool:
    """Whether rows of this shape are clips (C, F, H, W) of at least two frames."""
    return len(shape) == 4 and shape[1] > 1


def motion_of_clips(x: Tensor) -> Tensor:
    """Motion of each clip, the mean over channels, pixels and neighbouring frames of |x_{f+1} - x_f|.

    Args:
        x: Clips (N, C, F, H, W), pixels or latents.

    Returns:
        The motion, (N,) in float64, in the units of x.

    Raises:
        ValueError: The rows are no clips of at least two frames, there are none, or a value is not finite.
    """
    expect_finite("x", x)
    if not has_frames(x.shape[1:]) or not len(x):
        raise ValueError(f"motion is measured on clips (N, C, F, H, W) of at least two frames, got {tuple(x.shape)}")
    return x.double().diff(dim=2).abs().flatten(1).mean(1)


def motion(x: Tensor) -> Estimate:
    """Mean motion of clips.

    Args:
        x: Clips (N, C, F, H, W), pixels or latents.

    Returns:
        The mean over clips of `motion_of_clips`, with its standard error; that of a single clip is NaN.

    Raises:
        ValueError: As for `motion_of_clips`.
    """
    return _mean(motion_of_clips(x))


def motion_ratio(x: Tensor, reference: Tensor) -> Estimate:
    """Motion of clips as a share of the motion of other clips: 1 for clips of one law, 0 for frozen clips.

    Args:
        x: Clips (N, C, F, H, W).
        reference: Other clips, independent of them, such as data.

    Returns:
        The ratio of the means, with its standard error to first order.

    Raises:
        ValueError: As for `motion_of_clips`, or the reference stands still.
    """
    (value, error), (base, base_error) = motion(x), motion(reference)
    _expect_moving(base)
    return Estimate(value / base, math.hypot(error, value / base * base_error) / base)


def paired_motion_ratio(x: Tensor, reference: Tensor) -> Estimate:
    """Motion of clips as a share of the motion of their partners, such as a teacher's clips from the same noise.

    Args:
        x: Clips (N, C, F, H, W).
        reference: Their partners, as many, in the same order.

    Returns:
        The ratio of the means. Its standard error counts that partners move alike, so it is smaller than the one of
        `motion_ratio`.

    Raises:
        ValueError: As for `motion_ratio`, or the numbers of clips differ.
    """
    ours, theirs = motion_of_clips(x), motion_of_clips(reference)
    if len(ours) != len(theirs):
        raise ValueError(f"each clip needs its partner, got {len(ours)} clips beside {len(theirs)}")
    base = theirs.mean().item()
    _expect_moving(base)
    ratio = ours.mean().item() / base
    return Estimate(ratio, _mean(ours - ratio * theirs).stderr / base)


def motion_measures(draws: Draws) -> Iterator[Measure]:
    """Yield the motion of samples, and its ratio to the motion of held-out data unless these stand still."""
    held_out, training = torch.cat(draws.held_out), torch.cat(draws.training)
    title = "mean absolute difference of neighbouring frames"
    wanted = draws.wanted
    yield Measure("motion", title, wanted, draws.n, lambda x: motion(x[:wanted]), motion(training))
    if motion(held_out).value == 0:
        return
    title = "motion divided by the motion of held-out data; below the value of real data, motion is lost"
    yield Measure(
        "motion_ratio",
        title,
        wanted,
        draws.n,
        lambda x: motion_ratio(x[:wanted], held_out),
        motion_ratio(training, held_out),
    )


@dataclass(frozen=True)
class MotionRow:
    """The motion of one kind of clips, and its ratio to the teacher's.

    Attributes:
        clips: Their name.
        motion: The motion.
        ratio: The ratio to the motion of the teacher's clips.
    """

    clips: str
    motion: Estimate
    ratio: Estimate


def compare_motion(
    flow: FlowMap,
    teacher: Any,
    data: Data,
    *,
    jumps: Sequence[int] = (1, 4),
    teacher_steps: int = 16,
    n: int = 8,
    seed: int = 0,
) -> list[MotionRow]:
    """Compare the motion of a student's clips with the motion of its teacher's, from the same noise and conditions.

    Args:
        flow: The student.
        teacher: A FlowMap, a guided velocity or another object with velocity(x, t).
        data: The data set, for the shape of a clip and the conditions; its clips are compared too unless they are zeros
            of data-free methods.
        jumps: Numbers of jumps of the student; restarts for a map to t = 0 alone.
        teacher_steps: Number of Euler steps of the teacher.
        n: Number of clips, at least four.
        seed: Fixes noise and conditions.

    Returns:
        Rows: the teacher, the floor (one half of the teacher's clips against the other), the student for each number of
        jumps, and the data. The standard errors of the student are paired.

    Raises:
        ValueError: The rows of the data are no clips, or a number is too small.
    """
    expect_flow(flow)
    at_least(1, teacher_steps=teacher_steps)
    at_least(4, n=n)
    check_seed(seed)
    if not has_frames(data.shape):
        raise ValueError(f"motion is measured on clips (C, F, H, W), and {data.name} has rows {tuple(data.shape)}")
    batch = next(data.batches(n, seed))
    condition = condition_of(batch, uses_labels(flow.network, data))
    options: dict[str, Any] = {"condition": condition, "seed": seed, "batch_size": 1}
    noise = flow.path.noise(torch.randn(n, *data.shape, generator=torch.Generator().manual_seed(seed)))
    name, half = f"teacher, {teacher_steps} Euler steps", n // 2
    theirs = sample(teacher, noise, teacher_steps, step=euler, **options)
    rows = [
        _row(name, theirs, theirs, paired_motion_ratio),
        _row("floor: half of them against the other half", theirs[:half], theirs[half:], motion_ratio),
    ]
    was_training = flow.training
    flow.eval()
    for count in jumps:
        if count == 1 or flow.only_source is None:
            x = sample(flow, noise, count, step=default(flow, count), **options)
            rows.append(_row(f"student, {count} {'jump' if count == 1 else 'jumps'}", x, theirs, paired_motion_ratio))
    flow.train(was_training)
    return [*rows, _row("data", batch.x0, theirs, motion_ratio)] if batch.x0.any() else rows


def _row(name: str, x: Tensor, theirs: Tensor, ratio: Callable[[Tensor, Tensor], Estimate]) -> MotionRow:
    """A row; its numbers are NaN if clips are not finite, and the ratio if the teacher's stand still."""
    unknown = Estimate(math.nan, math.nan)
    if not is_measurable(x, name):
        return MotionRow(name, unknown, unknown)
    known = bool(theirs.isfinite().all()) and motion(theirs).value > 0
    return MotionRow(name, motion(x), ratio(x, theirs) if known else unknown)


def _mean(values: Tensor) -> Estimate:
    """Mean and standard error of independent numbers."""
    stderr = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), stderr)


def _expect_moving(base: float) -> None:
    if base == 0:
        raise ValueError("the reference clips stand still, so nothing is a share of their motion")
