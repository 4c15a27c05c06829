"""Clocks: monotone functions from uniform numbers to times, so that equal steps of u are equally hard."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ..arguments import at_least, checked, refuse_factory, shown
from .frames import refuse_frames
from .samplers import Times

Clock = Callable[[Tensor], Tensor]
"""Ascending function from u in [0, 1] to the time, with 0 -> 0 and 1 -> 1."""
POINTS = 4096
"""Points of a tabulated clock."""
NODES = 100
"""Nodes of the quadrature: the error is 1e-10 for 27 classes and 6e-5 for 50,257."""


def clocked(times: Times, clock: Clock) -> Times:
    """Map the draws of a sampler by a clock: (s, t) -> (clock(s), clock(t)).

    Args:
        times: The sampler, of numbers on the clock.
        clock: Ascending function from [0, 1] to [0, 1], such as `flm_clock(classes)`.

    Returns:
        The sampler.

    Raises:
        TypeError: One of them is no function.
    """
    for name, value in (("times are drawn by", times), ("a clock is", clock)):
        if not callable(value):
            raise TypeError(f"{name} a function, got {shown(value)}")
    refuse_factory("a sampler of times", times, "Times")
    refuse_frames(times)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s, t = times(n, progress, like)
        return clock(s), clock(t)

    return draw


def clocked_by_classes(times: Times) -> Times:
    """Map the draws of a sampler by the `flm_clock` of the data, whose last dimension holds the classes.

    Args:
        times: The sampler, of numbers on the clock.

    Returns:
        The sampler.
    """

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        return clocked(times, flm_clock(like.shape[-1]))(n, progress, like)

    return draw


@dataclass(frozen=True)
class TableClock:
    """A piecewise linear clock.

    Args:
        u: Ascending numbers from 0 to 1, (N,).
        times: Ascending times from 0 to 1, (N,).
    """

    u: Tensor
    times: Tensor

    def __call__(self, u: Tensor) -> Tensor:
        """Time of numbers u in [0, 1]."""
        return interpolated(u, self.u, self.times)

    def inverse(self, t: Tensor) -> Tensor:
        """Number u of times in [0, 1]."""
        return interpolated(t, self.times, self.u)

    def __repr__(self) -> str:
        return f"TableClock({len(self.u)} points)"


def interpolated(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Piecewise linear function through ascending points (xs, ys), at x; computed in the dtype of the points."""
    xs, ys, wide = xs.to(x.device), ys.to(x.device), x.to(xs.dtype)
    index = torch.searchsorted(xs, wide.contiguous(), right=True).clamp(1, len(xs) - 1)
    low, high = xs[index - 1], xs[index]
    share = ((wide - low) / (high - low)).clamp(0, 1)
    return torch.lerp(ys[index - 1], ys[index], share).to(x.dtype)


@checked
def flm_clock(classes: int) -> TableClock:
    """The clock of Flow Language Models: u falls as fast as tokens can be told from the noisy state.

    P(t) is the probability that the largest of K entries of x_t = (1 - t) e + t eps is the one of the data,

        P(t) = int phi(z) Phi(z + (1 - t)/t)^(K - 1) dz,        (K P - 1)/(K - 1) = 1 - u

    The table is made by quadrature. Lee et al. 2026, arXiv 2602.16813.

    Args:
        classes: Number of classes K.

    Returns:
        The clock. Half of it lies above t = 0.51 for 2 classes, and above 0.19 for 50,257.

    Raises:
        ValueError: There are fewer than two classes.
    """
    at_least(2, classes=classes)
    return _flm_clock(classes)


@functools.lru_cache(maxsize=32)
def _flm_clock(classes: int) -> TableClock:
    """The table, which is kept: so it is made of real numbers on the CPU, in a plan with fake tensors too."""
    with _disable_current_modes(), torch.device("cpu"):
        return _quadrature(classes)


def _quadrature(classes: int) -> TableClock:
    steps = torch.arange(1, NODES, dtype=torch.float64).sqrt()
    jacobi = torch.diag(steps, 1) + torch.diag(steps, -1)  # Golub and Welsch 1969, for the weight phi
    nodes, vectors = torch.linalg.eigh(jacobi)
    weights = vectors[0].square()
    t = torch.linspace(0, 1, POINTS, dtype=torch.float64)[1:]
    logs = torch.special.log_ndtr(nodes + ((1 - t) / t)[:, None])
    right = ((classes - 1) * logs).exp() @ weights
    u = 1 - (classes * right - 1) / (classes - 1)
    u = u / u[-1]
    rises = torch.cat([u[:1] > 1e-9, (u[1:] > 1e-9) & (u[1:] > u.cummax(0).values[:-1])])
    zero = u.new_zeros(1)
    return TableClock(torch.cat([zero, u[rises]]), torch.cat([zero, t[rises]]))
