"""Samplers of (s, t): the distributions that methods draw their times from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, checked, given, positive, within

Times = Callable[[int, float, Tensor], tuple[Tensor, Tensor]]


def times_like(like: Tensor) -> dict[str, Any]:
    """Device and dtype of the times of a batch: the batch's own, but never below float32."""
    return {"device": like.device, "dtype": torch.promote_types(like.dtype, torch.float32)}


def _check_ends(low: float, high: float) -> None:
    within(0, 1, low=low, high=high)
    if not low <= high:
        raise ValueError(f"times lie between low and high, and low={low} is above high={high}")


def _sorted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.maximum(a, b), torch.minimum(a, b)


@checked
def uniform_triangle(low: float = 0.0, high: float = 1.0) -> Times:
    """Uniform pairs s >= t: two uniforms on [low, high], sorted (Boffi et al. 2025, arXiv 2505.18825).

    Args:
        low: Least time.
        high: Largest time.

    Returns:
        The sampler.
    """
    _check_ends(low, high)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        a, b = low + (high - low) * torch.rand(2, n, **times_like(like))
        return _sorted(a, b)

    return draw


@checked
def uniform_diagonal(low: float = 0.0, high: float = 1.0) -> Times:
    """Diagonal s = t, uniform on [low, high].

    Args:
        low: Least time.
        high: Largest time.

    Returns:
        The sampler.
    """
    _check_ends(low, high)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = low + (high - low) * torch.rand(n, **times_like(like))
        return s, s

    return draw


@checked
def stratified_diagonal(low: float = 0.0, high: float = 1.0) -> Times:
    """Diagonal s = t on [low, high], with one row in each of n equal parts, in random order.

    Args:
        low: Least time.
        high: Largest time.

    Returns:
        The sampler. The times of a batch cover the interval evenly, so that a loss varies less.
    """
    _check_ends(low, high)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        part = torch.randperm(n, device=like.device) + torch.rand(n, **times_like(like))
        s = low + (high - low) * (part / n).clamp(max=1)
        return s, s

    return draw


@checked
def logit_normal_pairs(
    mean: float = -0.4, std: float = 1.0, mean_target: float | None = None, std_target: float | None = None
) -> Times:
    """Logit-normal pairs s >= t: two draws sigmoid(N(mean, std^2)), sorted (MeanFlow, arXiv 2505.13447).

    Args:
        mean: Mean of the logit.
        std: Standard deviation of the logit.
        mean_target: Mean of the second draw's logit. None: `mean`.
        std_target: Standard deviation of the second draw's logit. None: `std`.

    Returns:
        The sampler.

    Neither end of time is ever reached: one-jump methods that never see s near 1 have to extrapolate there.
    """
    within(0, math.inf, std=std, **given(std_target=std_target))

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.randn(2, n, **times_like(like))
        second = z[1] * (std if std_target is None else std_target) + (mean if mean_target is None else mean_target)
        return _sorted(torch.sigmoid(z[0] * std + mean), torch.sigmoid(second))

    return draw


@checked
def logit_normal_below(
    mean: float = -0.6, std: float = 1.6, mean_target: float = -4.0, std_target: float = 1.6, least: float = 0.0
) -> Times:
    """Logit-normal s = sigmoid(N(mean, std^2)), then t = min(sigmoid(N(mean_target, std_target^2)), s - least).

    Unlike in `logit_normal_pairs`, s keeps its distribution. Rows with the second draw above s have t = s at least = 0.

    Args:
        mean: Mean of the logit of s.
        std: Standard deviation of the logit of s.
        mean_target: Mean of the second draw's logit.
        std_target: Standard deviation of the second draw's logit.
        least: Least gap s - t; s is not below it.

    Returns:
        The sampler.

    MeanFlow's code for CIFAR-10 (arXiv 2505.13447); SoFlow's code, with a least gap (arXiv 2512.15657).
    """
    within(0, math.inf, std=std, std_target=std_target)
    within(0, 1, least=least)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.randn(2, n, **times_like(like))
        s = torch.sigmoid(z[0] * std + mean).clamp(min=least)
        return s, torch.minimum(torch.sigmoid(z[1] * std_target + mean_target), s - least)

    return draw


@checked
def gap(mean: float = -0.8, std: float = 1.0) -> Times:
    """Logit-normal gap s - t = sigmoid(N(mean, std^2)), then t uniform on [0, 1 - (s - t)].

    Args:
        mean: Mean of the gap's logit.
        std: Standard deviation of the gap's logit.

    Returns:
        The sampler.

    One of the published forms of Align Your Flow.
    """
    within(0, math.inf, std=std)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        width = torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)
        t = torch.rand(n, **times_like(like)) * (1 - width)
        return (t + width).clamp(max=1), t

    return draw


@checked
def gap_logit_normal(mean: float = -0.8, std: float = 1.0, mean_target: float = -0.4, std_target: float = 1.0) -> Times:
    """Logit-normal gap s - t, then a logit-normal t truncated to [0, 1 - (s - t)].

    Args:
        mean: Mean of the gap's logit.
        std: Standard deviation of the gap's logit.
        mean_target: Mean of t's logit, before truncation.
        std_target: Standard deviation of t's logit, before truncation.

    Returns:
        The sampler. It draws t by the inverse distribution function.

    Terminal Velocity Matching, arXiv 2511.19797.
    """
    within(0, math.inf, std=std)
    positive(std_target=std_target)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        width = torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)
        most = torch.special.log_ndtr((torch.logit(1 - width) - mean_target) / std_target).exp()  # ndtr has no tail
        z = torch.special.ndtri((torch.rand_like(most) * most).clamp(min=torch.finfo(most.dtype).tiny))
        t = torch.minimum(torch.sigmoid(z * std_target + mean_target), 1 - width)
        return (t + width).clamp(max=1), t

    return draw


@checked
def logit_normal_diagonal(mean: float = -0.4, std: float = 1.0) -> Times:
    """Logit-normal diagonal, s = t = sigmoid(N(mean, std^2)).

    Args:
        mean: Mean of the logit.
        std: Standard deviation of the logit.

    Returns:
        The sampler.
    """
    within(0, math.inf, std=std)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)
        return s, s

    return draw


@checked
def angle_normal(mean: float = -1.0, std: float = 1.4, data_std: float = 1.0) -> Times:
    """Log-normal noise levels on the trigonometric path: t = 0, s = (2/pi) arctan(exp(N(mean, std^2)) / data_std).

    Args:
        mean: Mean of the log noise level.
        std: Standard deviation of the log noise level.
        data_std: Standard deviation of the data.

    Returns:
        The sampler.

    sCM, arXiv 2410.11081; FACM, arXiv 2507.03738.
    """
    within(0, math.inf, std=std)
    positive(data_std=data_std)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        level = torch.exp(torch.randn(n, **times_like(like)) * std + mean) / data_std
        s = torch.atan(level) * (2 / math.pi)
        return s, torch.zeros_like(s)

    return draw


@checked
def after_u_shape(steepness: float = 4.0, mean: float = -0.8, std: float = 1.0) -> Times:
    """U-shaped s with density ~ exp(a s) + exp(a (1 - s)), then t = max(s - sigmoid(N(mean, std^2)), 0).

    Args:
        steepness: The rate a; a large one favours both ends of time.
        mean: Mean of the gap's logit.
        std: Standard deviation of the gap's logit.

    Returns:
        The sampler. It sets t = 0 if s > 0.8 and t < 0.4.

    Rectified MeanFlow, arXiv 2511.23342.
    """
    within(0, math.inf, std=std)
    positive(steepness=steepness)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.log1p(torch.rand(n, **times_like(like)) * math.expm1(steepness)) / steepness
        s = torch.where(torch.rand(n, **times_like(like)) < 0.5, s, 1 - s).clamp(0, 1)
        t = (s - torch.sigmoid(torch.randn(n, **times_like(like)) * std + mean)).clamp(min=0)
        return s, torch.where((s > 0.8) & (t < 0.4), torch.zeros_like(t), t)

    return draw


@checked
def strip(low: float = 0.0, high: float = 0.25) -> Times:
    """Gap s - t uniform on [low, high], then t uniform on [0, 1 - (s - t)]: maps of limited range.

    Args:
        low: Least gap.
        high: Largest gap.

    Returns:
        The sampler.

    Raises:
        ValueError: Unless 0 <= low < high <= 1.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"the gaps of a strip need 0 <= low < high <= 1, got {low} and {high}")

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        width = low + (high - low) * torch.rand(n, **times_like(like))
        t = torch.rand(n, **times_like(like)) * (1 - width)
        return (t + width).clamp(max=1), t

    return draw


@checked
def doubling_strip(phases: int) -> Times:
    """Strip with its largest gap doubled from phase to phase: 2^(1 - phases), ..., 1/2, 1.

    Args:
        phases: Number of equal parts of training.

    Returns:
        The sampler.
    """
    at_least(1, phases=phases)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        return strip(0.0, 2.0 ** (phase_of(progress, phases) + 1 - phases))(n, progress, like)

    return draw


@checked
def doubling_steps(phases: int) -> Times:
    """Steps of a uniform grid that has half as many in each phase (Salimans and Ho 2022, arXiv 2202.00512).

    Args:
        phases: Number of equal parts of training.

    Returns:
        The sampler: a gap s - t of 2^(1 - phases), ..., 1/2, 1, and s on the multiples of the gap.
    """
    at_least(1, phases=phases)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        cells = 2 ** (phases - 1 - phase_of(progress, phases))
        t = torch.randint(cells, (n,), device=like.device).to(times_like(like)["dtype"]) / cells
        return t + 1 / cells, t

    return draw


@checked
def dyadic(levels: int = 7) -> Times:
    """Dyadic grid of shortcut models (arXiv 2410.12557).

    Args:
        levels: Number of different gaps.

    Returns:
        The sampler: a gap s - t of 1, 1/2, ..., 2^(1-levels), all equally often, and s on the multiples of the gap.

    The halves of a gap are then on the grid of the next level; the finest half is 2^-levels.
    """
    at_least(1, levels=levels)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        # all levels equally often within a batch, starting from a random one, so that small batches miss none for good
        first = torch.randint(levels, (1,), device=like.device)
        level = (first + torch.arange(n, device=like.device)) % levels
        cells = 2.0 ** level.to(times_like(like)["dtype"])
        t = torch.floor(torch.rand(n, **times_like(like)) * cells) / cells
        return t + 1 / cells, t

    return draw


@checked
def grid(size: int = 128) -> Times:
    """Diagonal s = t on {1/size, ..., 1}: the starts of a shortcut model's steps, where it learns flow matching.

    Args:
        size: Number of steps.

    Returns:
        The sampler.
    """
    at_least(1, size=size)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.randint(1, size + 1, (n,), device=like.device).to(times_like(like)["dtype"]) / size
        return s, s

    return draw


def phase_of(progress: float, phases: int) -> int:
    """Index of the current one of `phases` equal parts of training, from 0.

    Args:
        progress: Share of training that is done, in [0, 1].
        phases: Number of parts.

    Returns:
        0, ..., phases - 1.
    """
    return min(int(progress * phases + 1e-9), phases - 1)
