"""The path of a discrete schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..arguments import shown
from .base import Path


@dataclass(frozen=True, repr=False)
class Discrete(Path):
    """Discrete schedule of DDPM, with steps k = 0, ..., N-1, as a path (Ho et al. 2020, arXiv 2006.11239).

    Args:
        alphas_cumprod: alpha^2 at the N steps, at least three decreasing numbers in [0, 1).

    Raises:
        TypeError: These are no numbers.
        ValueError: There are fewer than three numbers, one is outside [0, 1), or they do not decrease.

    Step k is the time (k+1)/N, where alpha^2 = alphas_cumprod[k] and sigma^2 = 1 - alpha^2; time 0 is data. Between the
    steps log(sigma/alpha) is linear. It would be infinite in the first interval, and in the last one if no data is left
    at its end (zero terminal SNR, arXiv 2305.08891): there the angle atan2(sigma, alpha) is linear.
    """

    alphas_cumprod: tuple[float, ...]
    _clocks: dict[Any, tuple[Tensor, Tensor]] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            kept = tuple(float(share) for share in self.alphas_cumprod)
        except (TypeError, ValueError):
            raise TypeError(f"alphas_cumprod must be numbers, got {shown(self.alphas_cumprod)}") from None
        if len(kept) < 3 or not (1 > kept[0] and kept[-1] >= 0 and all(a > b for a, b in pairwise(kept))):
            raise ValueError("alphas_cumprod must be three numbers or more in [0, 1) that fall from each to the next")
        object.__setattr__(self, "alphas_cumprod", kept)

    def __deepcopy__(self, memo: dict[int, Any]) -> Discrete:
        return self  # immutable, so that all share its cached clocks

    def __repr__(self) -> str:
        return f"Discrete({len(self.alphas_cumprod)} steps, {self.alphas_cumprod[0]:g} to {self.alphas_cumprod[-1]:g})"

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        inner, first, level, rate = self._at(t)
        outer = torch.where(first, torch.cos(t * rate), torch.sin((1 - t) * rate))
        return torch.where(inner, torch.sigmoid(-2 * level).sqrt(), outer)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        inner, first, level, rate = self._at(t)
        outer = torch.where(first, torch.sin(t * rate), torch.cos((1 - t) * rate))
        return torch.where(inner, torch.sigmoid(2 * level).sqrt(), outer)

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return -(self.sigma(s) + self.sigma(t)) * self._half_turn(s, t)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return (self.alpha(s) + self.alpha(t)) * self._half_turn(s, t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Invert the path; 1 for more noise than at the last step."""
        (knots, rates), steps = self._clock(alpha), len(self.alphas_cumprod)
        noisiest = steps - 1 if self.alphas_cumprod[-1] == 0 else steps  # of the steps that have a level
        angle = torch.atan2(sigma, alpha)
        first, last = angle < knots[1, 1], angle > torch.atan(knots[0, noisiest].exp())
        outside = first | last
        level = torch.where(outside, 1.0, sigma).log() - torch.where(outside, 1.0, alpha).log()
        step = torch.searchsorted(knots[0, 1:noisiest], level.detach().contiguous(), right=True).clamp(min=1)
        inner = step.to(level.dtype) / steps + (level - knots[0, step]) / rates[0, step]
        end = torch.ones_like(angle) if noisiest == steps else 1 + (angle - math.pi / 2) / rates[1, -1]
        return torch.where(first, angle / rates[1, 0], torch.where(last, end, inner))

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """At t: whether the level changes, whether t lies before the first step, the level, the rate of the angle."""
        knots, rates = self._clock(t)
        cell = self._cell(t)
        level = knots[0, cell] + rates[0, cell] * (t - cell.to(t.dtype) / len(self.alphas_cumprod))
        return rates[0, cell] > 0, cell == 0, level, rates[1, cell]

    def _half_turn(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided tangent tan(h)/(t - s), h half the angle between the states at s and t; exact at any gap."""
        # the angle is atan(exp(level)), plus its increase over the outer cells
        (a, b), (level, outer) = (self._at(s)[2], self._at(t)[2]), self._slopes(s, t)
        gap, middle = (b - a) / 2, (a + b) / 2
        z = torch.sinh(gap) / torch.cosh(middle)  # tan(atan(e^b) - atan(e^a))
        inner = _over(torch.atan, z, -1 / 3, 1 / 5) * _over(torch.sinh, gap, 1 / 6, 1 / 120) / (2 * torch.cosh(middle))
        turn = inner * level + outer
        return turn / 2 * _over(torch.tan, (t - s) * turn / 2, 1 / 3, 2 / 15)

    def _slopes(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Divided differences of the two clocks."""
        # within a cell the rate; across knots the sum of the increases before, between and after them: no cancellation
        (knots, rates), steps = self._clock(t), len(self.alphas_cumprod)
        low, high = torch.minimum(s, t), torch.maximum(s, t)
        i, j = self._cell(low), self._cell(high)
        before, after = (i + 1).to(t.dtype) / steps - low, high - j.to(t.dtype) / steps
        across = rates[:, i] * before + (knots[:, j] - knots[:, i + 1]) + rates[:, j] * after
        level, angle = torch.where(i == j, rates[:, i], across / torch.where(i == j, 1.0, high - low))
        return level, angle

    def _cell(self, t: Tensor) -> Tensor:
        steps = len(self.alphas_cumprod)
        return (t.detach() * steps).long().clamp(0, steps - 1)

    def _clock(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Two piecewise linear functions of time: values at the knots k/N, (2, N + 1), and rates between, (2, N)."""
        # the level log(sigma/alpha), constant in the outer cells, and the angle, which changes in these alone
        key = like.device, like.dtype
        if key in self._clocks:
            return self._clocks[key]
        share = torch.tensor([share for share in self.alphas_cumprod if share > 0], dtype=torch.float64)
        level, steps = (torch.log1p(-share) - share.log()) / 2, len(self.alphas_cumprod)
        angle = torch.atan(level.exp())
        knots = torch.empty(2, steps + 1, dtype=torch.float64)
        knots[0] = torch.cat([level[:1], level, level[-1:]])[: steps + 1]
        knots[1, 0], knots[1, 1:], knots[1, steps] = 0, angle[0], angle[0] + (math.pi / 2 - angle[-1])
        if len(share) == steps:
            knots[1, steps] = angle[0]
        clock = knots.to(*key), (knots.diff(dim=1) * steps).to(*key)
        if type(clock[0]) is Tensor and not torch.compiler.is_compiling():  # not under a fake mode or a compiler
            self._clocks[key] = clock
        return clock


def _over(function: Callable[[Tensor], Tensor], z: Tensor, second: float, fourth: float) -> Tensor:
    """Evaluate function(z) / z of an odd function, near 0 by 1 + second z^2 + fourth z^4; smooth, as _expm1_over."""
    small = z.abs() < 1e-3
    safe = torch.where(small, 1.0, z)
    return torch.where(small, 1 + z**2 * (second + z**2 * fourth), function(safe) / safe)
