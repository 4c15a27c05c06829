"""Covariances of the data given a state, and likelihoods of measurements that are widened by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .operators import Linearised

DENSE = 64
"""Largest number of measured values for which the covariance of a measurement is written out as a matrix."""
ITERATIONS = 40
"""Most iterations of conjugate gradients for more measured values."""


@dataclass(frozen=True)
class Spread:
    """Covariance C of x0 given a state: a number for each row, or a linear function.

    Args:
        variance: The number rho of C = rho I, (B, 1, ..., 1); None for another covariance.
        product: The function v -> C v of data (B, ...), differentiable in the state.
        probes: Random probes of the trace of A C A^T, if this matrix is too large to be written out.
    """

    variance: Tensor | None = None
    product: Callable[[Tensor], Tensor] | None = None
    probes: int = 1

    def __call__(self, v: Tensor) -> Tensor:
        """C v."""
        if self.variance is not None:
            return self.variance * v
        assert self.product is not None
        return self.product(v)

    def log_likelihood(self, residual: Tensor, variance: float, A: Linearised) -> Tensor:
        """Log-density N(residual; 0, variance I + A C A^T), (B,), differentiable in the residual and in C.

        Args:
            residual: y - A(x0), (B, M).
            variance: Variance of the noise in y.
            A: The derivative of the measurement operator.

        Returns:
            The log-density. It is exact where A A^T and C are multiples of 1, and for up to `DENSE` measured values.
            For more, the quadratic form is solved by conjugate gradients, and the determinant is taken from the mean
            diagonal.
        """
        if self.variance is not None and A.operator.gram is not None:
            return log_normal(residual, variance + self.variance.reshape(-1, 1) * A.operator.gram)

        def covariance(u: Tensor) -> Tensor:
            return variance * u + A.forward(self(A.adjoint(u)))

        if residual.shape[1] <= DENSE:
            unit = torch.eye(residual.shape[1]).to(residual)
            if self.variance is not None and A.operator.linear:  # A A^T is the same for all rows: one set of axes
                gram = A.of_rows(len(unit))
                values, axes = torch.linalg.eigh(precise(gram.forward(gram.adjoint(unit)).detach()))
                along = variance + self.variance.reshape(-1, 1) * values.clamp(min=0).to(residual)
                return log_normal(residual @ axes.to(residual), along)
            return _dense(residual, variance, torch.stack([covariance(one.expand_as(residual)) for one in unit], 1))
        with torch.no_grad():
            u = conjugate_gradients(covariance, residual.detach(), ITERATIONS)
        square = (2 * u * residual - u * covariance(u)).sum(1)  # residual . S^-1 residual, with its gradient
        # the same probes for all rows: their error is a common factor of the weights of particles, which cancels
        z = torch.randint(0, 2, (self.probes, 1, residual.shape[1]), device=residual.device).to(residual) * 2 - 1
        z = z.expand(self.probes, *residual.shape)
        diagonal = torch.stack([(probe * covariance(probe)).mean(1) for probe in z]).mean(0).clamp(min=variance)
        return -0.5 * (square + residual.shape[1] * (2 * math.pi * diagonal).log())


def precise(x: Tensor) -> Tensor:
    """A tensor in double precision, where the device has it."""
    return x.float() if x.device.type == "mps" else x.double()


def _dense(residual: Tensor, variance: float, S: Tensor) -> Tensor:
    """The log-density with the covariance written out, (B, M, M)."""
    S = (S + S.mT) / 2  # the Jacobian of a learned denoiser is symmetric, with no negative eigenvalues, up to its error
    with torch.no_grad():
        values, axes = torch.linalg.eigh(S)
        missing = (axes * (variance - values).clamp(min=0)[:, None]) @ axes.mT
    factor = torch.linalg.cholesky(S + missing)
    white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
    logarithm = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return -0.5 * (white**2 + math.log(2 * math.pi)).sum(1) - logarithm


def log_normal(residual: Tensor, variance: float | Tensor) -> Tensor:
    """Log-density N(residual; 0, variance I), (B,), for residuals (B, M) and a variance (B, 1) or a number."""
    logarithm = math.log(2 * math.pi * variance) if isinstance(variance, float) else (2 * math.pi * variance).log()
    return -0.5 * (residual**2 / variance + logarithm).sum(1)


def conjugate_gradients(covariance: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """Solve S u = b for each row by conjugate gradients.

    Args:
        covariance: The function u -> S u, with S symmetric and positive definite in each row.
        b: Right sides, (B, M).
        iterations: Most iterations. They end when all residuals have shrunk by 1e-5.

    Returns:
        u, (B, M).
    """
    u, r = torch.zeros_like(b), b.clone()
    p, square = r, (r * r).sum(1, keepdim=True)
    enough = 1e-10 * square
    for _ in range(iterations):
        if bool((square <= enough).all()):
            break
        image = covariance(p)
        curvature = (p * image).sum(1, keepdim=True)
        going = (square > enough) & (curvature > 0)  # rows that are solved, or not positive, stay
        step = torch.where(going, square / torch.where(going, curvature, 1.0), 0.0)
        u, r = u + step * p, r - step * image
        following = (r * r).sum(1, keepdim=True)
        p, square = r + following / square.clamp(min=1e-30) * p, torch.where(going, following, 0.0)
    return u
