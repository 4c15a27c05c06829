"""Distributions with known velocity, denoiser, flow map and likelihood: the reference for tests and evaluation.

`Circle`, `Zonal` and `Atoms` are laws on manifolds. All serve as data (`sample`) and as teachers (`velocity`,
`average_velocity`). Every method takes x of shape (B, *shape) and times as a number, (B,) or (B, 1, ..., 1); results
have x's dtype.
"""

from .atoms import Atoms
from .base import Exact
from .categorical import Categorical
from .circle import Circle
from .curved import OnManifold
from .gaussian import Gaussian, gaussian_average_velocity
from .mixture import GaussianMixture
from .quadratic import Quadratic, QuadraticReward
from .rows import MixtureRows
from .tilting import Components
from .zonal import Zonal

__all__ = [
    "Atoms", "Categorical", "Circle", "Components", "Exact", "Gaussian", "GaussianMixture", "MixtureRows",
    "OnManifold", "Quadratic", "QuadraticReward", "Zonal", "gaussian_average_velocity",
]  # fmt: skip
