"""Distributions whose velocity, denoiser, flow map and likelihood are known: the truth that everything is tested
against.

They also serve as data (`sample`), as teachers (`velocity`, `average_velocity`) and as targets of evaluation. Every
method takes x of shape (B, *shape) and times as a number, (B,) or (B, 1, ..., 1); results have x's dtype, whatever it
is.
"""

from .base import Exact
from .gaussian import Gaussian, gaussian_average_velocity
from .mixture import GaussianMixture

__all__ = ["Exact", "Gaussian", "GaussianMixture", "gaussian_average_velocity"]
