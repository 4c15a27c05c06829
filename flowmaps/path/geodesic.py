"""The path along geodesics of a manifold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from ..manifolds import Euclidean, Manifold
from .base import Path
from .closed import linear
from .time_shapes import Time, expand

NEAR = 1e-3
"""Distance to the manifold up to which a row is a point, against rounding."""


@dataclass(frozen=True)
class Geodesic(Path):
    """Path along the geodesics of a manifold, x_t = exp_{x_0}(t log_{x_0}(e)), with e the prior's point.

    Args:
        manifold: The manifold, such as `fm.manifolds.Sphere(2)`.

    Raises:
        TypeError: It is no manifold.

    On this path a `FlowMap` has V = tangent(x, value) and F = exp_x((t - s) V). The noise that methods and samplers
    draw is standard normal; `noise` makes points of it. In Euclidean space it is the linear path, bit for bit. On any
    other manifold states have no sums, so there is no alpha, no sigma and no mean of x_0: functions that need them
    refuse (Chen and Lipman 2024, arXiv 2302.03660; Davis et al. 2025, arXiv 2510.21608).
    """

    manifold: Manifold

    def __post_init__(self) -> None:
        if not isinstance(self.manifold, Manifold):
            raise TypeError(
                f"a geodesic path needs a manifold, such as fm.manifolds.Sphere(2), got {type(self.manifold).__name__}"
            )

    @property
    def curved(self) -> bool:
        """Whether this is another space than R^n."""
        return not isinstance(self.manifold, Euclidean)

    def interpolate(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """State at time t of the geodesic from x_0 to noise(eps)."""
        return self.manifold.geodesic(x0, self.noise(eps), expand(t, x0)).to(x0.dtype)

    def velocity(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """Conditional velocity -log_{x_t}(x_0)/t = log_{x_t}(e)/(1 - t); the larger denominator is taken."""
        return self.manifold.speed(x0, self.noise(eps), expand(t, x0)).to(x0.dtype)

    @property
    def isometric(self) -> bool:
        """Whether the metric of the manifold is the one of its coordinates."""
        return self.manifold.isometric

    def noise(self, normal: Tensor) -> Tensor:
        """Points of the prior of standard normal numbers."""
        return self.manifold.noise(normal)

    def move(self, x: Tensor, u: Tensor) -> Tensor:
        """exp_x(u)."""
        return self.manifold.exp(x, u)

    def expect(self, name: str, x: Tensor) -> None:
        """Check that rows are points of the manifold, at most `NEAR` off it; values are read on the CPU alone."""
        if not self.curved:
            return
        if x.ndim < 2 or x.shape[-1] != self.manifold.size:
            raise ValueError(
                f"points on {self.manifold} have {self.manifold.size} coordinates, and {name} has the shape "
                f"{tuple(x.shape)}"
            )
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return
        off = self.manifold.off(x.detach().double()).reshape(len(x), -1).amax(1)
        if bool((wrong := ~(off <= NEAR)).any()):
            row = int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"{int(wrong.sum())} of {len(x)} rows of {name} are no points on {self.manifold}, the first row {row}, "
                f"by {float(off[row]):.3g}: `fm.noise(flow, n)` draws points of the prior, `manifold.point(x)` projects"
                ", and angles are radians"
            )

    def point(self, x: Tensor) -> Tensor:
        """Nearest point of the manifold."""
        return self.manifold.point(x)

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of the manifold's prior, with respect to its volume."""
        return self.manifold.log_prior(x) if self.curved else super().log_prior(x)

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """Isometry from the normal space at x to the one at y, (B, size, size)."""
        return self.manifold.normal(x, y)

    def to_cut(self, x: Tensor, u: Tensor) -> Tensor:
        """Length of u as a share of the distance of the cut locus in its direction."""
        return self.manifold.to_cut(x, u)

    def to_pole(self, x: Tensor, u: Tensor) -> Tensor:
        """The same share for the derivative of log."""
        return self.manifold.to_pole(x, u)

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """log_x(y)."""
        return self.manifold.log(x, y)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Projection to the tangent space at x."""
        return self.manifold.tangent(x, u)

    def scale(self, x: Tensor, u: Tensor) -> Tensor:
        """Coordinates of u whose sum of squares is its squared length."""
        return self.manifold.scale(x, u)

    def renoise(self, x: Tensor, t: Time, s: Time, noise: Tensor) -> Tensor:
        """Re-noise data to time s: the geodesic to a new point of the prior.

        Raises:
            ValueError: t is not 0, and the manifold is curved: p(x_s | x_t) has no closed form there.
        """
        if not self.curved:
            return super().renoise(x, t, s, noise)
        if bool((expand(t, x) != 0).any()):
            raise ValueError("on a manifold noise is added to data alone, at t = 0: p(x_s | x_t) has no closed form")
        return self.interpolate(x, noise, s)

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data in Euclidean space."""
        return self._flat().alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise in Euclidean space."""
        return self._flat().sigma(t)

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha in Euclidean space."""
        return self._flat().alpha_slope(s, t)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma in Euclidean space."""
        return self._flat().sigma_slope(s, t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Time of a noise level in Euclidean space."""
        return self._flat().time_of(alpha, sigma)

    def _flat(self) -> Path:
        return self._refuse() if self.curved else linear

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"on {self.manifold} a state is no sum of data and noise, and data have no mean, so a denoiser, a score, "
            "a linear path's coefficients and functions that need them do not exist; velocities and jumps do"
        )
