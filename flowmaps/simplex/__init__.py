"""Consistency rules of distributions over classes, as cross-entropies of the denoised field.

The map has an output `fm.Endpoint(link=fm.links.softmax)`, so that its field p = softmax(z) lies in the simplex. On the
linear path V = (x - p)/s, F = (t/s) x + (1 - t/s) p, and the rules of `fm.consistency` become

- token:                -sum x_0 log p(x, s, s), least for p = E[x_0 | x_s]
- token_compositional:  p = [(1 - g) t p(x, s, m) + g s p(F(x, s, m), m, t)]/m,  m = g s + (1 - g) t
- token_lagrangian:     p = p(F, t, t) + t (s - t)/s dp/dt
- token_eulerian:       p = p(x, s, s) - s (s - t)/t D_s p,  D_s along the velocity

On other paths their coefficients are ratios of sigma and `Path.field_slope`. A rule returns one loss for each row, the
cross-entropy with the stopped right side less the entropy of this target, summed over positions, so that it is zero for
the true map and has the gradient of the cross-entropy. Give its term the weight `fm.weight.plain`.
"""

from .diagonal import token, token_distilled, token_embedded
from .jumps import composed, token_compositional, token_endpoint, token_eulerian, token_lagrangian
from .losses import classes_in, classes_of, cross_entropy, divergence, on_simplex

__all__ = [
    "classes_in", "classes_of", "composed", "cross_entropy", "divergence", "on_simplex", "token", "token_compositional",
    "token_distilled", "token_embedded", "token_endpoint", "token_eulerian", "token_lagrangian",
]  # fmt: skip
