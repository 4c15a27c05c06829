"""Likelihood: the log-density of data under a flow, exactly, by a few jumps, or as a bound.

`log_prob(flow, x0, by=...)` takes one of these estimators:

- `ode(divergence, solver)`: the change of variables of the probability-flow ODE, with the exact trace or Hutchinson's.
- `jumps(steps)`: the jumps as a normalising flow, with the log-determinant of each (FALCON).
- `joint(steps)`: a flow map of the state and its log-density, a `Joint` map (F2D2).
- `bound(draws)`: the variational bound of the denoiser, an equality for the exact one.

`sample` draws together with log-densities, `importance` weighs draws against an energy, and `bits_per_dim` converts
nats for images of whole levels, whose gaps `noised` fills, or `dequantised` if the flow was trained on such rows.
"""

from ..velocity.divergence import Divergence, Exact, Hutchinson
from .bound import Bound, bound
from .jumps import Jumps, jumps
from .levels import bits_per_dim, dequantised, noised
from .log_prob import log_prob
from .ode import Ode, ode
from .result import Estimator, LogProb
from .sampling import Weighted, importance, sample
from .solvers import adaptive, euler, grid, heun, rk4

exact = Exact
hutchinson = Hutchinson

__all__ = [
    "Bound", "Divergence", "Estimator", "Exact", "Hutchinson", "Jumps", "LogProb", "Ode", "Weighted", "adaptive",
    "bits_per_dim", "bound", "dequantised", "euler", "exact", "grid", "heun", "hutchinson", "importance", "jumps",
    "log_prob", "noised", "ode", "rk4", "sample",
]  # fmt: skip
