"""Measurement operators of inverse problems, A(x0), and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..arguments import at_least, expect_finite, positive, shown


@dataclass(frozen=True)
class Operator:
    """Measurement operator: a function from data (B, ...) to measurements (B, ...), row by row.

    Args:
        apply: The function.
        linear: Whether it is linear, without a constant.
        gram: The number g of A A^T = g I; None if A A^T is another matrix, or not known.
        factor: The number a of the operator a x0; None for any other operator.
    """

    apply: Callable[[Tensor], Tensor]
    linear: bool = False
    gram: float | None = None
    factor: float | None = None

    def __call__(self, x0: Tensor) -> Tensor:
        """Measure data."""
        return self.apply(x0)


def as_operator(A: Any) -> Operator:
    """Read a measurement operator.

    Args:
        A: An operator; a matrix (M, D) that acts on the D flattened coordinates of a row; a number, which multiplies
            the data; or a differentiable function x0 -> measurement.

    Returns:
        The operator.

    Raises:
        TypeError: It is something else.
        ValueError: A matrix has another number of dimensions, or a value is not finite.
    """
    if isinstance(A, Operator):
        return A
    if isinstance(A, Tensor) and A.ndim:
        return _matrix(A)
    if isinstance(A, int | float | Tensor) and not isinstance(A, bool):
        factor = float(A)
        if not math.isfinite(factor) or factor == 0:
            raise ValueError(f"a number as a measurement operator must be finite and not 0, got {factor}")
        return Operator(lambda x0: factor * x0, linear=True, gram=factor**2, factor=factor)
    if not callable(A):
        raise TypeError(f"a measurement operator is a matrix (M, D), a number or a function of x0, got {shown(A)}")
    return Operator(A)


def _matrix(A: Tensor) -> Operator:
    """The operator of a matrix (M, D)."""
    if A.ndim != 2 or not A.is_floating_point():
        raise ValueError(
            f"a measurement matrix has shape (M, D), for D coordinates of a row, and floating-point entries, got "
            f"{A.dtype} of shape {tuple(A.shape)}; a mask is fm.rewards.mask(...)"
        )
    expect_finite("a measurement matrix", A)

    def apply(x0: Tensor) -> Tensor:
        rows = x0.flatten(1)
        if rows.shape[1] != A.shape[1]:
            raise ValueError(
                f"a measurement matrix of shape {tuple(A.shape)} takes rows of {A.shape[1]} coordinates, got x0 of "
                f"shape {tuple(x0.shape)}"
            )
        return torch.matmul(rows, A.to(rows).T)

    gram, square = torch.matmul(A, A.T), A.shape[0] == A.shape[1]
    number, factor = float(gram[0, 0]), float(A[0, 0])
    return Operator(
        apply,
        linear=True,
        gram=number if torch.equal(gram, number * torch.eye(len(A)).to(gram)) else None,
        factor=factor if square and torch.equal(A, factor * torch.eye(len(A)).to(A)) else None,
    )


def mask(kept: Tensor) -> Operator:
    """Operator that measures some coordinates alone, such as the pixels around a hole (inpainting).

    Args:
        kept: True, or 1, where a coordinate is measured; of the shape of one row, or of the last axes of it, such as
            (H, W) for images (C, H, W).

    Returns:
        The operator; its measurement has the M kept coordinates, (B, M) or (B, C, M).

    Raises:
        ValueError: No coordinate is kept, or values are neither 0 nor 1.
    """
    if not isinstance(kept, Tensor) or not bool(((kept == 0) | (kept == 1)).all()) or not bool((kept == 1).any()):
        raise ValueError("a mask is a tensor of 0 and 1, or False and True, that keeps at least one coordinate")
    chosen = kept == 1

    def apply(x0: Tensor) -> Tensor:
        if x0.ndim <= chosen.ndim or tuple(x0.shape[-chosen.ndim :]) != tuple(chosen.shape):
            raise ValueError(f"a mask of shape {tuple(chosen.shape)} does not fit rows of shape {tuple(x0.shape[1:])}")
        return x0[..., chosen.to(x0.device)]

    return Operator(apply, linear=True, gram=1.0)


def blur(sigma: float) -> Operator:
    """Operator that blurs images (B, C, H, W) by a Gaussian, with reflected edges (deblurring).

    Args:
        sigma: Standard deviation of the Gaussian in pixels.

    Returns:
        The operator.

    Raises:
        ValueError: sigma is not positive. In calls: the data are no images, or the images are too small.
    """
    positive(sigma=sigma)
    radius = math.ceil(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    line = line / line.sum()

    def apply(x0: Tensor) -> Tensor:
        _images("a blur", x0, radius + 1)
        channels, kernel = x0.shape[1], line.to(x0)
        for axis, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
            shape = [1, 1, 1, 1]
            shape[axis] = -1
            weight = kernel.reshape(shape).expand(channels, -1, -1, -1)
            x0 = F.conv2d(F.pad(x0, pad, mode="reflect"), weight, groups=channels)
        return x0

    return Operator(apply, linear=True)


def downsample(factor: int) -> Operator:
    """Operator that averages squares of pixels of images (B, C, H, W) (super-resolution).

    Args:
        factor: Side of a square in pixels; it divides the sides of the images.

    Returns:
        The operator.

    Raises:
        ValueError: factor is below 1. In calls: the data are no images, or their sides are no multiples of it.
    """
    at_least(1, factor=factor)

    def apply(x0: Tensor) -> Tensor:
        _images("downsampling", x0, factor)
        if x0.shape[2] % factor or x0.shape[3] % factor:
            raise ValueError(f"downsampling by {factor} needs sides that it divides, got {tuple(x0.shape[2:])}")
        return F.avg_pool2d(x0, factor)

    return Operator(apply, linear=True, gram=1 / factor**2)


def _images(name: str, x0: Tensor, least: int) -> None:
    """Check that data are images with sides of at least some pixels."""
    if x0.ndim != 4 or min(x0.shape[2:]) < least:
        raise ValueError(f"{name} needs images (B, C, H, W) with sides of at least {least}, got {tuple(x0.shape)}")


def differentiable_twice() -> AbstractContextManager[None]:
    """Compute attention by the kernel that has second derivatives; fused ones have the first alone."""
    return sdpa_kernel(SDPBackend.MATH)


@dataclass(frozen=True)
class Linearised:
    """Derivative of an operator at data z: `forward(v)` is J v, `adjoint(u)` is J^T u, over flattened measurements."""

    operator: Operator
    z: Tensor

    def of_rows(self, n: int) -> Linearised:
        """The derivative of a linear operator for n rows."""
        return Linearised(self.operator, torch.zeros_like(self.z[:1]).expand(n, *self.z.shape[1:]))

    def forward(self, v: Tensor) -> Tensor:
        """J v, (B, M), differentiable in v."""
        if self.operator.linear:
            return self.operator(v).flatten(1)
        with torch.enable_grad(), differentiable_twice():  # the derivative in w of (J^T w) . v
            z = self.z.detach().requires_grad_()
            out = self.operator(z).flatten(1)
            w = torch.zeros_like(out, requires_grad=True)
            (pulled,) = torch.autograd.grad(out, z, w, create_graph=True)
            return torch.autograd.grad(pulled, w, v, create_graph=True)[0]

    def adjoint(self, u: Tensor) -> Tensor:
        """J^T u, of the shape of z, without a gradient."""
        with torch.enable_grad():
            z = self.z.detach().requires_grad_()
            return torch.autograd.grad(self.operator(z).flatten(1), z, u)[0]
