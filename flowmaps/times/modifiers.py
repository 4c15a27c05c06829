"""Modifiers: functions from a sampler of (s, t) to another one, with the curricula among them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, checked, refuse_factory, shown, within
from .frames import refuse_frames
from .samplers import Times


def from_noise(times: Times) -> Times:
    """Set every source to s = 1 and keep the targets of `times`: maps that start from noise only."""
    _check(times)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        _, t = times(n, progress, like)
        return torch.ones_like(t), t

    return draw


def to_data(times: Times) -> Times:
    """Set every target to t = 0 and keep the sources of `times`: consistency models."""
    _check(times)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, _ = times(n, progress, like)
        return s, torch.zeros_like(s)

    return draw


@checked
def at_most(times: Times, high: float) -> Times:
    """Move rows with a source above a largest time down to it, with their gap s - t where t stays at least 0.

    Args:
        times: The sampler, of rows t <= s.
        high: Largest source time, such as 80/81 for networks of EDM, whose noise level s/(1 - s) ends at 80.

    Returns:
        The sampler.
    """
    within(0, 1, high=high)
    _check(times)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        excess = (s - high).clamp(min=0)
        return s - excess, (t - excess).clamp(min=0)

    return draw


@checked
def with_diagonal(times: Times, share: float) -> Times:
    """Move a fixed share of the rows to the diagonal t = s.

    Args:
        times: The sampler.
        share: Share of the rows, rounded to whole rows.

    Returns:
        The sampler with its first rows on the diagonal.

    If the diagonal has a term of its own, give that term a share of the batch instead.
    """
    within(0, 1, share=share)
    _check(times)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        return s, torch.where(torch.arange(n, device=s.device) < round(share * n), s, t)

    return draw


@checked
def mixture(share: float, first: Times, second: Times) -> Times:
    """Draw a fixed share of the rows from one sampler, the rest from another, in random order.

    Args:
        share: Share of the first sampler, rounded to whole rows.
        first: The first sampler.
        second: The second sampler.

    Returns:
        The mixture.
    """
    within(0, 1, share=share)
    _check(first)
    _check(second)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        count = round(share * n)
        parts = first(count, progress, like), second(n - count, progress, like)
        order = torch.randperm(n, device=like.device)
        return torch.cat([parts[0][0], parts[1][0]])[order], torch.cat([parts[0][1], parts[1][1]])[order]

    return draw


def grouped(times: Times, group: int) -> Times:
    """Give the rows of a block the same times, for a `Term` whose rows come in blocks (`Term(group=...)`).

    Args:
        times: The sampler, of one pair (s, t) for each block.
        group: Rows of a block.

    Returns:
        The sampler. It raises ValueError for a number of rows that the group does not divide.
    """
    at_least(1, group=group)
    _check(times)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        if n % group:
            raise ValueError(f"{n} rows are no whole number of blocks of {group} rows")
        s, t = times(n // group, progress, like)
        return s.repeat(group), t.repeat(group)  # block b of B has the rows b, b + B, ..., as in `Rows.in_groups`

    return draw


@checked
def growing_gap(times: Times, until: float = 0.5, start: float = 0.0) -> Times:
    """Curriculum: the largest gap s - t grows linearly from `start` to 1; larger gaps are cut to it.

    Args:
        times: The sampler.
        until: Share of training at which the largest gap reaches 1, in (0, 1].
        start: Largest gap at the start of training.

    Returns:
        The sampler with its targets moved towards its sources.

    Raises:
        ValueError: `until` is outside (0, 1].
    """
    within(0, 1, start=start)
    _check(times)
    if not 0 < until <= 1:
        raise ValueError(f"a curriculum must end after a share in (0, 1] of training, got {until}")

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        widest = start + (1 - start) * min(1.0, progress / until)
        return s, torch.maximum(t, s - widest)

    return draw


def both_directions(times: Times) -> Times:
    """Exchange source and target in every other row, so that a map also learns to go from data to noise."""
    _check(times)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        back = torch.arange(n, device=s.device) % 2 == 1
        return torch.where(back, t, s), torch.where(back, s, t)

    return draw


def _check(times: Any) -> None:
    """Raise TypeError unless a value is a sampler of times."""
    if not callable(times):
        raise TypeError(f"times are drawn by a function, such as times.gap(), got {shown(times)}")
    refuse_factory("a sampler of times", times, "Times")
    refuse_frames(times)
