"""Rules of continuous adversarial flow models: velocities, by the rate of the critic along them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..consistency import guarded, on_the_diagonal
from ..derivative import stop
from ..matching import needs_the_pair
from ..networks.layers import full_precision
from .critics import logits_and_slopes, rate


@on_the_diagonal
@guarded(needs_the_pair)
def discriminate_velocities(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, discriminator: Any, centring: float
) -> dict[str, Tensor]:
    """The critic of continuous adversarial flow models: velocities u of pairs against the velocity v of the flow.

        (D'(u) - 1)^2 + (D'(v) + 1)^2 + centring D^2,   D'(w) = dD/dx . w + dD/dt at (x_t, t)

    D' is affine in w, so one gradient of D gives it along both velocities.

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_t, (B, ...).
        s: Times, (B, 1, ...).
        t: The same.
        discriminator: The critic D, (x, t, condition) -> one logit.
        centring: Factor of the squared logit.

    Returns:
        The loss and the margin by name, (B, 1).
    """
    with full_precision(x.device):
        logits, along_x, along_s = logits_and_slopes(discriminator, teacher.pair.condition, x, s)
        velocities = teacher.velocity(x, s), stop(flow.velocity)(x, s)
        on_real, on_fake = (rate(along_x, along_s, w) for w in velocities)
        loss = (on_real - 1).square() + (on_fake + 1).square() + centring * logits.square()
    return {"discriminator": loss, "margin": stop(on_real - on_fake)}


@on_the_diagonal
@guarded(needs_the_pair)
def deceive_velocity(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, discriminator: Any, transport: float
) -> dict[str, Tensor]:
    """The flow of continuous adversarial flow models, against the critic of `discriminate_velocities`.

        (D'(v) - 1)^2 + transport |v|^2,   v = v(x_t, t) of the flow; the second part is a mean over coordinates

    Arguments as there.
    """
    v = flow.velocity(x, s)
    with full_precision(x.device):
        _, along_x, along_s = stop(logits_and_slopes)(discriminator, teacher.pair.condition, x, s)
        on_real, on_fake = (rate(along_x, along_s, w) for w in (teacher.velocity(x, s), v))
    losses = {"adversarial": (on_fake - 1).square(), "margin": stop(on_real - on_fake)}
    return losses | ({"transport": transport * v.square()} if transport else {})
