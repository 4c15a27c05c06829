"""Sources of the velocity in a rule.

A *velocity source* is a function (flow, pair) -> teacher, bound anew for each batch. A *teacher* is any object with
`velocity(x, t)`, and with `average_velocity(x, s, t)` for rules that need jumps. So an exact distribution, a FlowMap or
a pretrained model is a teacher as it is.

- `conditional`: u = alpha' x_0 + sigma' eps of the sampled pair, unbiased at x_s only, and only where the residual is
  linear in it
- `own`: the flow itself (the post's self-distillation)
- `frozen`: the flow's weights as constants; gradients still pass through its input
- `averaged(decay)`: an exponential moving average of the flow's weights, kept by the method
- `fixed(model)`: a given teacher; `by_velocity(model)`: the same, with Euler steps as jumps
- `Phased(teacher, phases)`: a teacher that is replaced by the flow itself, phase after phase
- `Auxiliary()`: a second flow map, with an optimiser of its own; `Discriminator(network)` likewise
"""

from .companions import Auxiliary, Averaged, Companion, Discriminator, MakeOptimizer, Phased, averaged
from .sources import (
    ByVelocity,
    Checked,
    Conditional,
    Fixed,
    Pair,
    Teacher,
    VelocitySource,
    by_velocity,
    conditional,
    constant,
    fixed,
    frozen,
    is_conditional,
    own,
)

__all__ = [
    "Auxiliary", "Averaged", "ByVelocity", "Checked", "Companion", "Conditional", "Discriminator", "Fixed",
    "MakeOptimizer", "Pair", "Phased", "Teacher", "VelocitySource", "averaged", "by_velocity", "conditional",
    "constant", "fixed", "frozen", "is_conditional", "own",
]  # fmt: skip
