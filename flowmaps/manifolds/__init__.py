"""Manifolds: the geometry that a geodesic path needs. Points and tangent vectors are rows of ambient coordinates.

    Sphere(n), Torus(n), SO3, Hyperbolic(n), Euclidean(n), Product(...), from_geoopt(...)

A manifold has `exp`, `log`, `tangent`, `point`, `distance`, `scale` and `noise`; all act on the last axis. Their
derivatives are right at every gap, also where two points coincide, so rules may differentiate through them.
"""

from .base import Manifold
from .flat import Euclidean, Torus
from .sphere import Sphere

__all__ = ["Euclidean", "Manifold", "Sphere", "Torus"]
