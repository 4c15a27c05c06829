"""Manifolds: the geometry that a geodesic path needs. Points and tangent vectors are rows of ambient coordinates.

    Sphere(n), Torus(n), SO3(), Hyperbolic(n), Euclidean(n), Product(...), from_geoopt(...)

A manifold has `exp`, `log`, `tangent`, `point`, `distance`, `scale` and `noise`; all act on the last axis. Their
derivatives are right at every gap, also where two points coincide, so rules may differentiate through them.
"""

from .adapter import GeooptManifold, from_geoopt
from .base import Manifold
from .flat import Euclidean, Torus
from .hyperbolic import Hyperbolic
from .product import Product
from .rotations import SO3
from .sphere import Sphere

__all__ = [
    "GeooptManifold", "Euclidean", "Hyperbolic", "Manifold", "Product", "SO3", "Sphere", "Torus", "from_geoopt",
]  # fmt: skip
