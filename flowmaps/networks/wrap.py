"""Networks around a network: in rotated coordinates, with x at the scale of the data, and with a noisy state."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import expect_finite, expect_floating, expect_tensor, shown
from ..serialise import describable
from .layers import expect_shape, full_precision


@describable
class InBasis(nn.Module):
    """A network in rotated coordinates: network(x B, s, t) B^T, with x flattened for the rotation.

    A rotation does not change the distribution of the noise and commutes with x + (t - s) V, so the flow map is the
    same in both coordinates. (A shift by the data's mean is not: the mean of x_t is alpha(t) times the data's mean.)
    The inner network sees x in its own shape.

    Args:
        network: the inner network.
        basis: orthogonal matrix B (D, D) with the new axes as columns, such as `pca_basis` makes.

    Raises:
        ValueError: for a basis that is not a square matrix, and when called with x of another size.
    """

    passes_time_to = "network"
    basis: Tensor

    def __init__(self, network: nn.Module, basis: Tensor) -> None:
        super().__init__()
        expect_tensor("basis", basis)
        if basis.ndim != 2 or basis.shape[0] != basis.shape[1]:
            raise ValueError(f"a basis is a square matrix with the new axes as columns, got shape {tuple(basis.shape)}")
        self.network = network
        self.register_buffer("basis", basis.clone(memory_format=torch.contiguous_format))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and the conditions of the inner network."""
        values, size = math.prod(x.shape[1:]), len(self.basis)
        if values != size:
            raise ValueError(f"this network takes x of {size} values a row, got {values} in {tuple(x.shape)}")
        basis = self.basis.to(x.dtype)
        return rotate(self.network(rotate(x, basis), s, t, **condition), basis.T)


@runtime_checkable
class Coefficients(Protocol):
    """The coefficients of a path, x_t = alpha(t) x_0 + sigma(t) eps."""

    def alpha(self, t: Tensor) -> Tensor:
        """Coefficient of the data."""

    def sigma(self, t: Tensor) -> Tensor:
        """Coefficient of the noise."""


@describable
class GaussianInput(nn.Module):
    """A network that sees x at the scale of the data at every time: network(F_G(x, s, 0) - mean, s, t).

    F_G is the flow map of a Gaussian with independent coordinates: it divides the deviation of x_s from its mean by its
    standard deviation, and multiplies it with the one of the data,

        F_G(x, s, 0) - mean = sqrt(variances/(alpha(s)^2 variances + sigma(s)^2)) (x - alpha(s) mean)

    So coordinates without much variance, such as the last principal axes of images, stay small when they are nearly
    noise alone, and a network does not have to learn another scale of each coordinate at each time. Inside `InBasis`
    the coordinates are the principal axes.

    Args:
        network: the inner network.
        mean: mean of the data, of the shape of one row.
        variances: variances of the coordinates, of the same shape.
        path: the path of the flow map, such as `path.linear`.

    Raises:
        TypeError: for a path that has no coefficients.
        ValueError: for variances of another shape or below 0, and when called with x of another shape.
    """

    passes_time_to = "network"
    mean: Tensor
    variances: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, variances: Tensor, path: Coefficients) -> None:
        super().__init__()
        expect_tensor("mean", mean)
        expect_tensor("variances", variances)
        if mean.shape != variances.shape:
            raise ValueError(f"mean and variances have one shape, got {tuple(mean.shape)} and {tuple(variances.shape)}")
        if not isinstance(path, Coefficients):
            raise TypeError(f"path must be a path, such as fm.path.linear, got {shown(path)}")
        if not variances.is_meta and bool((variances < 0).any()):  # a network of a file begins on the meta device
            raise ValueError("variances must not be negative")
        self.network, self.path = network, path
        for name, value in (("mean", mean), ("variances", variances)):
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and the conditions of the inner network."""
        expect_shape(x, tuple(self.mean.shape), self.mean)
        times = s.reshape(-1, *[1] * (x.ndim - 1))
        alpha, sigma = self.path.alpha(times), self.path.sigma(times)
        scale = (self.variances / (alpha**2 * self.variances + sigma**2)).sqrt()
        return self.network((scale * (x - alpha * self.mean)).to(x.dtype), s, t, **condition)


@describable
class GaussianEndpoint(nn.Module):
    """A network that sees the end of the trajectory of a Gaussian: network(F_G(x, s, 0), s, t).

    As in `GaussianInput`, x has the scale of the data at every time and in every direction; here the network sees it
    in its own coordinates, so that convolutions see an image.

    Args:
        network: the inner network.
        gaussian: the average velocity of the Gaussian, an output with value 0, such as `outputs.SeparableSkip`.
        path: the path of the flow map, such as `path.linear`.

    Raises:
        TypeError: for a path that has no coefficients.
    """

    passes_time_to = "network"

    def __init__(self, network: nn.Module, gaussian: nn.Module, path: Coefficients) -> None:
        super().__init__()
        if not isinstance(path, Coefficients):
            raise TypeError(f"path must be a path, such as fm.path.linear, got {shown(path)}")
        self.network, self.gaussian, self.path = network, gaussian, path

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and the conditions of the inner network."""
        times = s.reshape(-1, *[1] * (x.ndim - 1))
        V = self.gaussian(torch.zeros_like(x), x, times, torch.zeros_like(times), self.path)
        return self.network((x - times * V).to(x.dtype), s, t, **condition)


@describable
class StateInput(nn.Module):
    """A network that also takes a noisy state and its time: network(x, s, t, state=x_t, at=t), for posterior maps.

    The inner network sees x, the state and a constant channel with the time side by side along the first axis of a row,
    and the first entries of its result count. So it is any network of `StateInput.shape_for(shape)`.

    Args:
        network: the inner network, of 2 C + 1 channels for rows of C channels.

    Raises:
        ValueError: when called without a state or its time, or with a state of another shape.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @staticmethod
    def shape_for(shape: int | tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one row of the inner network, (2 C + 1, ...) for rows (C, ...)."""
        first, *others = (shape,) if isinstance(shape, int) else shape
        return (2 * first + 1, *others)

    def forward(
        self,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        *,
        state: Tensor | None = None,
        at: Tensor | float | None = None,
        **condition: Any,
    ) -> Tensor:
        """Evaluate the network at x (B, *shape), with a state of the same shape and its time, (B,) or a number."""
        if state is None or at is None:
            raise ValueError(
                "this network takes a noisy state and its time: pass condition={'state': x_t, 'at': t}, or train on "
                "fm.data.with_state(data)"
            )
        if state.shape != x.shape:
            raise ValueError(f"the state has a row for each of x, of shape {tuple(x.shape)}, got {tuple(state.shape)}")
        time = torch.as_tensor(at, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
        rows = torch.cat([x, state.to(x.dtype), time.expand(len(x), 1, *x.shape[2:])], 1)
        return self.network(rows, s, t, **condition)[:, : x.shape[1]]


def rotate(x: Tensor, basis: Tensor) -> Tensor:
    """Compute x B in x's shape and dtype, without autocast."""
    with full_precision(x.device):
        return F.linear(x.flatten(1), basis.T).reshape(x.shape)


def pca_basis(x0: Tensor) -> Tensor:
    """Compute the principal axes of data, the largest variance first.

    The largest entry of each column is positive, so the basis does not depend on the solver's choice of sign. Fewer
    than D rows are enough: axes without variance complete the basis.

    Args:
        x0: data (N, *shape) with D values a row.

    Returns:
        An orthogonal matrix (D, D) with the axes as columns.

    Raises:
        ValueError: for fewer than 2 rows, and values that are not finite.
    """
    expect_floating("x0", x0, "(N, *shape)", least=2)
    rows = x0.detach().flatten(1).double()
    if len(rows) < 2:
        raise ValueError(f"principal axes need at least 2 rows of data, got {len(rows)}")
    expect_finite("x0", x0)
    centred = rows - rows.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return (axes * largest.sign()).to(x0.dtype)
