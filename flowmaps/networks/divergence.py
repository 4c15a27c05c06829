"""Networks of joint maps: a head for the mean divergence, and a network with such a head."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..arguments import expect_tensor, positive, shown
from ..serialise import describable
from .layers import zero
from .mlp import MLP
from .wrap import Coefficients

SHORT = 1e-3
"""Relative change of a variance below which the mean divergence of a Gaussian is a series."""


@runtime_checkable
class Slopes(Coefficients, Protocol):
    """The coefficients of a path with their divided differences."""

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """(alpha(t) - alpha(s)) / (t - s)."""

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """(sigma(t) - sigma(s)) / (t - s)."""


@describable
class DivergenceHead(MLP):
    """An MLP that predicts one number for each row: head(x, s, t, label=None) -> (B, 1).

    The output layer starts at zero.

    Args:
        shape: shape of one x, a number for vectors; images are flattened.
        width: width of the hidden layers.
        depth: number of residual blocks.
        classes: number of classes. None: unconditional.
        data_std: standard deviation of the data, which divides the input.
        waves: number of random directions in which the head also sees sines and cosines of x / data_std, see `MLP`.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a size or `data_std` that is not positive, and a size that is too large.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        width: int = 256,
        depth: int = 4,
        *,
        classes: int | None = None,
        data_std: float = 1.0,
        waves: int = 0,
    ) -> None:
        super().__init__(shape, width, depth, classes=classes, data_std=data_std, waves=waves)
        self.output = zero(nn.Linear(width, 1))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Evaluate the head at x (B, *shape), with times s and t (B,) and labels (B,), one integer or None."""
        return self.output(self.features(x, s, t, label)).to(x.dtype)

    @property
    def is_untrained(self) -> bool:
        """Whether the output layer is zero, as at the start."""
        return not any(bool(weight.any()) for weight in self.output.parameters())


@describable
class WithDivergence(nn.Module):
    """A network with a head for D(x, s, t), the mean divergence of the velocity along the path from s to t.

        D = D_G(s, t) + scale head(x, s, t)

    D_G is the mean divergence of a Gaussian with given variances, `mean_divergence`. Called as network(x, s, t) it is
    the inner network. With `divergence=True` it returns its value and D / scale side by side, (B, size + 1), which
    joint maps use (`fm.likelihood.joint_map`).

    Args:
        network: the inner network, of the state.
        head: a network (x, s, t) -> (B, 1).
        scale: size of the divergence, such as its root mean square.
        variances: variances of the Gaussian along its axes, (D,). None: D_G = 0.
        path: the path of the flow map, such as `path.linear`, for D_G.

    Raises:
        TypeError: for a network or a head that is no module, and for variances without a path.
        ValueError: for a scale or a variance that is not positive, and when the head returns another shape.
    """

    passes_time_to = "network"
    variances: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        head: nn.Module,
        scale: float = 1.0,
        variances: Tensor | None = None,
        path: Slopes | None = None,
    ) -> None:
        super().__init__()
        for name, part in (("network", network), ("head", head)):
            if not isinstance(part, nn.Module):
                raise TypeError(f"the {name} of a joint map is a module, called as {name}(x, s, t), got {shown(part)}")
        positive(scale=scale)
        self.network, self.head, self.scale, self.path = network, head, float(scale), path
        if variances is not None:
            expect_tensor("variances", variances)
            if not isinstance(path, Slopes):
                raise TypeError(f"path must be a path, such as fm.path.linear, got {shown(path)}")
            if not variances.is_meta and bool((variances < 0).any()):  # a network of a file begins on the meta device
                raise ValueError("variances must not be negative")
        self.register_buffer("variances", None if variances is None else variances.clone())

    def forward(self, x: Tensor, s: Tensor, t: Tensor, *, divergence: bool = False, **condition: Any) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and the conditions of the inner network."""
        value = self.network(x, s, t, **condition)
        if not divergence:
            return value
        found = self.head(x, s, t, **condition)
        if found.shape != (x.shape[0], 1):
            raise ValueError(
                f"the head must return one number for each row, ({x.shape[0]}, 1), got {tuple(found.shape)}"
            )
        if self.variances is not None and self.path is not None:
            found = found + mean_divergence(self.path, self.variances, s, t)[:, None] / self.scale
        return torch.cat([value.reshape(x.shape[0], -1), found.to(value.dtype)], 1)


def mean_divergence(path: Slopes, variances: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Mean divergence of the velocity of a Gaussian from s to t, half the divided difference of log det of x_t.

        D_G(s, t) = sum_i log(g_i(t) / g_i(s)) / (t - s),     g_i(t)^2 = alpha(t)^2 variances_i + sigma(t)^2

    At s = t it is the divergence, without a pole.

    Args:
        path: the path.
        variances: variances along the axes, (D,).
        s: source times, (B,).
        t: target times, (B,).

    Returns:
        (B,).
    """
    a, b = s[:, None], t[:, None]
    alpha = (path.alpha(a) + path.alpha(b)) * path.alpha_slope(a, b)
    sigma = (path.sigma(a) + path.sigma(b)) * path.sigma_slope(a, b)
    slope = (alpha * variances + sigma) / (path.alpha(a) ** 2 * variances + path.sigma(a) ** 2)
    change = (b - a) * slope
    short = change.abs() < SHORT
    long = torch.where(short, torch.ones_like(change), change)
    ratio = torch.where(short, 1 - change / 2 + change**2 / 3, torch.log1p(long) / long)
    return (slope * ratio).sum(1) / 2
