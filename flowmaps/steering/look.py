"""Look-aheads: the data x0 that are known from a state x_t.

A look-ahead is a function `look(flow, x, t) -> Outlook`. Points (`denoise`, `jump`, `field`) are cheap, and wrong for
sharp rewards. A Gaussian around the denoised state (`widened`, `moments`) is right for likelihoods of measurements.
Draws (`glass`, `posterior`, `renoise`) are right for any reward, in the limit of many draws.

    look-ahead     network passes    error
    denoise        1                 the reward of a mean is not the mean of the reward
    jump(L)        L                 one point of the posterior
    field(to)      1                 between the two
    widened(d)     1                 none for isotropic Gaussian data of standard deviation d
    moments        1                 none for Gaussian data
    glass(n, m)    n m               falls with n and m
    posterior(n)   n                 falls with n; the error of the map
    renoise(n)     n                 falls with n

The gradient of a value costs one more backward pass through them.
"""

from .outlook import Look, Outlook
from .points import Denoise, Field, Jump, Moments, Widened, denoise, field, jump, moments, widened
from .posterior_draws import GlassDraws, PosteriorDraws, RenoisedDraws, glass, posterior, renoise

__all__ = [
    "Denoise", "Field", "GlassDraws", "Jump", "Look", "Moments", "Outlook", "PosteriorDraws", "RenoisedDraws",
    "Widened", "denoise", "field", "glass", "jump", "moments", "posterior", "renoise", "widened",
]  # fmt: skip
