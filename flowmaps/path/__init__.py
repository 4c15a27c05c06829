"""Paths from data to noise: x_t = alpha(t) x_0 + sigma(t) eps, with t = 0 data and t = 1 noise.

A path is two functions of time and their *divided differences*

    alpha[s, t] = (alpha(t) - alpha(s)) / (t - s),        sigma[s, t] = (sigma(t) - sigma(s)) / (t - s).

These are written to be smooth at s = t, where they equal the derivatives alpha'(t), sigma'(t). They remove the pole of
every formula with a factor 1/(t - s). Everything else (conversions, re-noising, the ancestral kernel) follows from the
two functions.

`Geodesic(manifold)` is the path of data on a manifold, which has no alpha and sigma.
"""

from .base import Form, Path, data, determinant, noise, score, state, v_prediction, velocity
from .closed import Linear, Trigonometric, VarianceExploding, VariancePreserving, linear, trigonometric
from .discrete import Discrete
from .geodesic import Geodesic
from .time_shapes import Time, expand, expand_frames

__all__ = [
    "Discrete", "Form", "Geodesic", "Linear", "Path", "Time", "Trigonometric", "VarianceExploding",
    "VariancePreserving", "data", "determinant", "expand", "expand_frames", "linear", "noise", "score", "state",
    "trigonometric", "v_prediction", "velocity",
]  # fmt: skip
