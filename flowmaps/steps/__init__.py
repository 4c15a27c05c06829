"""Sampling steps. Every sampler is a composition of functions  step(flow, x, s, t) -> x_t.

    jump          F(x, s, t): one pass of the flow map
    euler, heun   the ODE dx/dt = v(x, t), first and second order; one and two passes
    heun_in_sigma the ODE in EDM's time, the noise level sigma/alpha, second order; two passes
    ode(...)      the ODE to a tolerance (torchdiffeq)
    ancestral     x_t ~ p(x_t | x_s, x_0 = f(x_s, s)): DDPM's step for any path
    sde(level)    the reverse SDE with the same marginals as the ODE; level 0 is DDIM, level 1 is `ancestral`
    restart       denoise to t = 0 by a jump, then re-noise to t: the sampler of consistency models
    gamma(g)      jump below t and re-noise up to it (CTM); g = 0 is `jump`, g = 1 is `restart`

`flow` is a FlowMap, an exact distribution or any object with the methods that the step calls. x is the state (B, ...)
at time s. s and t are numbers with t < s; deterministic steps also take t > s. A step returns the state at t, of x's
shape. Random steps draw from torch's global generator.

A partial map takes the steps that are valid for it and refuses the others (ValueError, on every device). With
only_target=0 it takes one `jump`, or several `restart`s; with only_source=1 exactly one jump. The other steps follow
the velocity V(x, t, t), which a partial map knows at one end of time at most. `default(flow, steps)` chooses for a map.
"""

from ..path import expand  # noqa: F401  # a name of version 0.1.0
from .choice import NAMES, default, named
from .deterministic import Step, euler, heun, heun_in_sigma, jump, ode
from .kernels import Kernel, ancestral, gamma, restart, sde

__all__ = [
    "NAMES", "Kernel", "Step", "ancestral", "default", "euler", "gamma", "heun", "heun_in_sigma", "jump", "named",
    "ode", "restart", "sde",
]  # fmt: skip
