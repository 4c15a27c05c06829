"""Distributions with known velocity, denoiser, flow map and likelihood: the reference for tests and evaluation.

They also serve as data (`sample`) and as teachers (`velocity`, `average_velocity`). Every method takes x of shape
(B, *shape) and times as a number, (B,) or (B, 1, ..., 1); results have x's dtype.
"""

from .base import Exact
from .categorical import Categorical
from .gaussian import Gaussian, gaussian_average_velocity
from .mixture import GaussianMixture
from .quadratic import Quadratic, QuadraticReward
from .rows import MixtureRows
from .tilting import Components

__all__ = [
    "Categorical", "Components", "Exact", "Gaussian", "GaussianMixture", "MixtureRows", "Quadratic", "QuadraticReward",
    "gaussian_average_velocity",
]  # fmt: skip
