"""Rules of methods that train a map against a critic, a network that distinguishes samples from data.

- adversarial: one-jump samples against data, the losses of both networks in one step
- discriminate, deceive: jumps against states on the path (adversarial flow models)
- discriminate_noised, deceive_noised: samples against data, at a noise level (latent adversarial distillation)
- deceive_and_follow: the same without noise, beside a distance from a teacher (adversarial distillation)
- discriminate_velocities, deceive_velocity: velocities, by the rate of the critic along them (continuous adversarial
  flow models)

A rule of a critic, `discriminate...`, stops the gradient of the flow, and a rule of the flow, `deceive...`, the one of
the critic. So they can share a step, or take turns (`fm.Turns`). A critic is called as critic(x, t, **condition) and
returns logits, which are larger for data. Besides its losses a rule returns the margin, the logits of data minus the
logits of samples, which is shown in training and adds nothing to the loss (`shown_alone`). It is near zero if the
critic cannot distinguish them.
"""

from .critics import (
    Game,
    hinge,
    judge,
    logistic,
    logits_and_slope,
    logits_and_slopes,
    rate,
    shown_alone,
    slope_by_noise,
    with_constant_weights,
)
from .jumps import deceive, discriminate
from .samples import adversarial, deceive_and_follow, deceive_noised, discriminate_noised
from .velocities import deceive_velocity, discriminate_velocities

__all__ = [
    "Game", "adversarial", "deceive", "deceive_and_follow", "deceive_noised", "deceive_velocity", "discriminate",
    "discriminate_noised", "discriminate_velocities", "hinge", "judge", "logistic", "logits_and_slope",
    "logits_and_slopes", "rate", "shown_alone", "slope_by_noise", "with_constant_weights",
]  # fmt: skip
