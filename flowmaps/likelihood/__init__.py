"""Likelihood: the log-density of data under a flow, exactly, by a few jumps, or as a bound.

`log_prob(flow, x0, by=...)` takes one of these estimators:

- `ode(divergence, solver)`: the change of variables of the probability-flow ODE, with the exact trace or Hutchinson's
  estimate.
- `jumps(steps)`: the jumps as a normalising flow, with the log-determinant of each (FALCON).
- `joint(steps)`: a flow map of the state and its log-density, a `Joint` map (F2D2).
- `bound(draws)`: the variational bound of the denoiser, an equality for the exact one.
- `tokens(draws)`: the same for one-hot rows, whose words have probabilities and no density.

`joint_map` gives a flow map the head that `joint` reads, and `gap` compares it with the ODE. `invertibility` watches
the determinants and the cycle error that `jumps` rely on.

`sample` draws together with log-densities, `importance` weighs draws against an energy, and `bits_per_dim` converts
nats for images of whole levels, whose gaps `noised` fills, or `dequantised` if the flow was trained on such rows.
"""

from ..velocity.divergence import Differences, Divergence, ExactTrace, Hutchinson
from .by_bound import Bound, bound
from .by_joint_map import Gap, Joint, gap, head, joint, joint_map
from .by_jumps import Jumps, determinants, jumps
from .by_ode import Ode, ode
from .by_tokens import TokenBound, tokens
from .densities import log_prob
from .invertible import Invertibility, invertibility
from .levels import bits_per_dim, dequantised, noised
from .result import Estimator, LogProb
from .sampling import Weighted, importance, sample
from .solvers import adaptive, euler, grid, heun, rk4

differences = Differences
exact = ExactTrace
hutchinson = Hutchinson

__all__ = [
    "Bound", "Differences", "Divergence", "Estimator", "ExactTrace", "Gap", "Hutchinson", "Invertibility", "Joint",
    "Jumps", "LogProb", "Ode", "TokenBound", "Weighted", "adaptive", "bits_per_dim", "bound", "dequantised",
    "determinants", "differences", "euler", "exact", "gap", "grid", "head", "heun", "hutchinson", "importance",
    "invertibility", "joint", "joint_map", "jumps", "log_prob", "noised", "ode", "rk4", "sample", "tokens",
]  # fmt: skip
