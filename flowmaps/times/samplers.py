"""Samplers of (s, t), and curricula that change them in the course of training.

A sampler is a function (n, progress, like) -> (s, t): two tensors of shape (n,) on like's device, in its dtype but
never below float32, with 0 <= t <= s <= 1 unless it says otherwise; progress in [0, 1] is the share of training that is
done. All draw from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Times = Callable[[int, float, Tensor], tuple[Tensor, Tensor]]


def times_like(like: Tensor) -> dict[str, Any]:
    """Device and dtype of times beside a batch."""
    return {"device": like.device, "dtype": torch.promote_types(like.dtype, torch.float32)}


def _sorted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.maximum(a, b), torch.minimum(a, b)


def uniform_triangle(low: float = 0.0, high: float = 1.0) -> Times:
    """s >= t: the larger and the smaller of two uniforms on [low, high] (Boffi et al. 2025, arXiv 2505.18825)."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        a, b = low + (high - low) * torch.rand(2, n, **times_like(like))
        return _sorted(a, b)

    return draw


def uniform_diagonal(low: float = 0.0, high: float = 1.0) -> Times:
    """s = t, uniform on [low, high]."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = low + (high - low) * torch.rand(n, **times_like(like))
        return s, s

    return draw


def logit_normal_pairs(
    mean: float = -0.4, std: float = 1.0, mean_target: float | None = None, std_target: float | None = None
) -> Times:
    """s >= t: two draws sigmoid(N(mean, std^2)), sorted; the second with its own mean and std if given (MeanFlow, arXiv
    2505.13447).

    Neither end of time is ever reached: one-jump methods that never see s near 1 have to extrapolate there.
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.randn(2, n, **times_like(like))
        second = z[1] * (std if std_target is None else std_target) + (mean if mean_target is None else mean_target)
        return _sorted(torch.sigmoid(z[0] * std + mean), torch.sigmoid(second))

    return draw


def gap(mean: float = -0.8, std: float = 1.0) -> Times:
    """The gap first: s - t = sigmoid(N(mean, std^2)), then t uniform on [0, 1 - (s - t)] (one of the published forms of
    Align Your Flow).
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        width = torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)
        t = torch.rand(n, **times_like(like)) * (1 - width)
        return (t + width).clamp(max=1), t

    return draw


def gap_logit_normal(mean: float = -0.8, std: float = 1.0, mean_target: float = -0.4, std_target: float = 1.0) -> Times:
    """The gap first, s - t = sigmoid(N(mean, std^2)), then t = sigmoid(N(mean_target, std_target^2)) truncated to [0, 1
    - (s - t)], by its inverse distribution function (Terminal Velocity Matching, arXiv 2511.19797).
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        width = torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)
        most = torch.special.log_ndtr((torch.logit(1 - width) - mean_target) / std_target).exp()  # ndtr has no tail
        z = torch.special.ndtri((torch.rand_like(most) * most).clamp(min=torch.finfo(most.dtype).tiny))
        t = torch.minimum(torch.sigmoid(z * std_target + mean_target), 1 - width)
        return (t + width).clamp(max=1), t

    return draw


def logit_normal_diagonal(mean: float = -0.4, std: float = 1.0) -> Times:
    """s = t = sigmoid(N(mean, std^2))."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)
        return s, s

    return draw


def angle_normal(mean: float = -1.0, std: float = 1.4, data_std: float = 1.0) -> Times:
    """t = 0 and s = (2/pi) arctan(exp(N(mean, std^2)) / data_std): log-normal noise levels on the trigonometric path
    (sCM, arXiv 2410.11081; FACM, arXiv 2507.03738).
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        level = torch.exp(torch.randn(n, **times_like(like)) * std + mean) / data_std
        s = torch.atan(level) * (2 / math.pi)
        return s, torch.zeros_like(s)

    return draw


def after_u_shape(steepness: float = 4.0, mean: float = -0.8, std: float = 1.0) -> Times:
    """s with density ~ exp(a s) + exp(a (1 - s)), which favours both ends, then t = max(s - sigmoid(N(mean, std^2)),
    0), and t = 0 where s > 0.8 and t < 0.4 (Rectified MeanFlow, arXiv 2511.23342).
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.log1p(torch.rand(n, **times_like(like)) * math.expm1(steepness)) / steepness
        s = torch.where(torch.rand(n, **times_like(like)) < 0.5, s, 1 - s).clamp(0, 1)
        t = (s - torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)).clamp(min=0)
        return s, torch.where((s > 0.8) & (t < 0.4), torch.zeros_like(t), t)

    return draw


def strip(low: float = 0.0, high: float = 0.25) -> Times:
    """A gap s - t uniform on [low, high], then t uniform on what is left: maps of limited range.

    Raises ValueError unless 0 <= low < high <= 1.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"the gaps of a strip need 0 <= low < high <= 1, got {low} and {high}")

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        width = low + (high - low) * torch.rand(n, **times_like(like))
        t = torch.rand(n, **times_like(like)) * (1 - width)
        return (t + width).clamp(max=1), t

    return draw


def doubling_strip(phases: int) -> Times:
    """`strip` whose widest gap doubles in each of `phases` equal parts of training: 2^(1 - phases), ..., 1/2, 1."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        return strip(0.0, 2.0 ** (phase_of(progress, phases) + 1 - phases))(n, progress, like)

    return draw


def doubling_steps(phases: int) -> Times:
    """Steps of a uniform grid that has half as many in each of `phases` equal parts of training: a gap of 2^(1 -
    phases), ..., 1/2, 1, and s on its multiples (Salimans and Ho 2022, arXiv 2202.00512).
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        cells = 2 ** (phases - 1 - phase_of(progress, phases))
        t = torch.randint(cells, (n,), device=like.device).to(times_like(like)["dtype"]) / cells
        return t + 1 / cells, t

    return draw


def dyadic(levels: int = 7) -> Times:
    """Shortcut models' grid (arXiv 2410.12557): a gap 2h of 1, 1/2, ..., 2^(1-levels), each as often, s on the
    multiples of the gap.

    The halves of a gap are then on the grid of the next level; the finest half is 2^-levels.
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        # each level as often as the others within a batch, from a random one on, so that a batch with fewer rows than
        # levels leaves none out for good
        first = torch.randint(levels, (1,), device=like.device)
        level = (first + torch.arange(n, device=like.device)) % levels
        cells = 2.0 ** level.to(times_like(like)["dtype"])
        t = torch.floor(torch.rand(n, **times_like(like)) * cells) / cells
        return t + 1 / cells, t

    return draw


def grid(size: int = 128) -> Times:
    """s = t on {1/size, ..., 1}: the starts of the steps of shortcut models, where they see flow matching."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.randint(1, size + 1, (n,), device=like.device).to(times_like(like)["dtype"]) / size
        return s, s

    return draw


def from_noise(times: Times) -> Times:
    """The same targets, every source at s = 1 (maps that only know noise)."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        _, t = times(n, progress, like)
        return torch.ones_like(t), t

    return draw


def to_data(times: Times) -> Times:
    """The same sources, every target at t = 0 (consistency models)."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, _ = times(n, progress, like)
        return s, torch.zeros_like(s)

    return draw


def with_diagonal(times: Times, share: float) -> Times:
    """A fixed share of the rows on the diagonal t = s. Where the diagonal has a term of its own, give that term a share
    of the batch instead.
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        return s, torch.where(torch.arange(n, device=s.device) < round(share * n), s, t)

    return draw


def mixture(share: float, first: Times, second: Times) -> Times:
    """The first sampler for a fixed share of the rows, the second for the rest, in random order."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        count = round(share * n)
        parts = first(count, progress, like), second(n - count, progress, like)
        order = torch.randperm(n, device=like.device)
        return torch.cat([parts[0][0], parts[1][0]])[order], torch.cat([parts[0][1], parts[1][1]])[order]

    return draw


def growing_gap(times: Times, until: float = 0.5, start: float = 0.0) -> Times:
    """A curriculum: the largest gap s - t grows linearly from `start` to 1 over the first `until` of training; larger
    draws are cut to it. Raises ValueError for `until` outside (0, 1].
    """
    if not 0 < until <= 1:
        raise ValueError(f"a curriculum must end after a share in (0, 1] of training, got {until}")

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        widest = start + (1 - start) * min(1.0, progress / until)
        return s, torch.maximum(t, s - widest)

    return draw


def both_directions(times: Times) -> Times:
    """Source and target exchanged for every other row, so that a map learns to go from data to noise too."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        back = torch.arange(n, device=s.device) % 2 == 1
        return torch.where(back, t, s), torch.where(back, s, t)

    return draw


def phase_of(progress: float, phases: int) -> int:
    """Which of `phases` equal parts of training this is, from 0."""
    return min(int(progress * phases + 1e-9), phases - 1)
