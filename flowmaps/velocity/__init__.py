"""Velocity sources: the velocity that a rule compares the flow with.

A *velocity source* is a function (flow, pair) -> teacher, called for each batch. A *teacher* is any object with
`velocity(x, t)`, and with `average_velocity(x, s, t)` for rules that need jumps. Exact distributions, FlowMaps and
pretrained models are teachers.

- `conditional`: u = alpha' x_0 + sigma' eps of the sampled pair; unbiased only at x_s, in residuals linear in u
- `own`: the flow itself (the post's self-distillation)
- `frozen`: the flow with constant weights; gradients still pass through its input
- `averaged(decay)`: the flow with an exponential moving average of its weights, kept by the method
- `fixed(model)`: a given teacher; `by_velocity(model)`: the same, with Euler steps as jumps
- `Phased(teacher, phases)`: a given teacher, replaced by the flow at the end of each phase of training
- `Glass(model)`: a teacher, the velocity of the data given a noisy state, made of any velocity
- `LearnedClock()`: a sampler of times that follows a loss; no velocity, but kept by the method like the averages
- `FrechetDistance()`: a weight that remembers moments of features, kept by the method likewise
- `Auxiliary()`: a second flow map with a separate optimiser; `Discriminator(network)`: a network with a separate one
"""

from .clocks import LearnedClock
from .companions import Auxiliary, Averaged, Companion, Discriminator, MakeOptimizer, Phased, averaged
from .glass import Glass
from .moments import FrechetDistance
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
    field_of,
    fixed,
    frozen,
    is_conditional,
    own,
)

__all__ = [
    "Auxiliary", "Averaged", "ByVelocity", "Checked", "Companion", "Conditional", "Discriminator", "Fixed",
    "FrechetDistance", "Glass", "LearnedClock", "MakeOptimizer", "Pair", "Phased", "Teacher", "VelocitySource",
    "averaged", "by_velocity", "conditional", "constant", "field_of", "fixed", "frozen", "is_conditional", "own",
]  # fmt: skip
