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

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .consistency import guarded, on_the_diagonal
from .derivative import stop
from .flow_map import FlowMap
from .matching import needs_the_pair
from .networks.layers import full_precision

Judge = Callable[[Tensor], Tensor]
"""States (B, ...) -> logits (B, n)."""
SHORTEST = 1e-3
"""The least length of a jump that divides."""


@dataclass(frozen=True)
class Game:
    """The two losses of logits, each (B, n).

    Attributes:
        critic: Function (logits of data, logits of samples) -> loss of the critic.
        flow: Function of the logits of samples -> loss of the flow.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    flow: Callable[[Tensor], Tensor]


hinge = Game(lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda fake: -fake)
"""The losses max(0, 1 - D(x_0)) + max(0, 1 + D(x)) and -D(x)."""
logistic = Game(lambda real, fake: F.softplus(-real) + F.softplus(fake), lambda fake: F.softplus(-fake))
"""The losses softplus(-D(x_0)) + softplus(D(x)) and softplus(-D(x)), whose best D is log p/q."""


def adversarial(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, discriminator: Any, penalty: float = 0.1
) -> dict[str, Tensor]:
    """A relativistic pairing loss with zero-centred gradient penalties (R1 and R2), on x = F(noise, s, t) and data x_0.

        adversarial, for the flow:  softplus(-(D(x) - D(x_0)))
        discriminator, for D:       softplus(D(x) - D(x_0)) + penalty/2 (|grad D(x_0)|^2 + |grad D(x)|^2)

    Each is stopped for the other's weights. The loss of Align Your Flow's second stage (arXiv 2506.14603); Huang et al.
    2024, arXiv 2501.05441.

    Args:
        flow: The flow map.
        teacher: The sampled pair, for its data and condition.
        x: Noise, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        discriminator: The network D, (x, condition) -> logits.
        penalty: Factor of the gradient penalties.

    Returns:
        Both losses by name, (B, ...) as the logits are.
    """
    data, samples = teacher.pair.x0, flow(x, s, t)
    condition = teacher.pair.condition
    fixed = judge(with_constant_weights(discriminator), condition)
    (on_real, real_slope), (on_fake, fake_slope) = (
        logits_and_slope(judge(discriminator, condition), stop(z)) for z in (data, samples)
    )
    return {
        "adversarial": F.softplus(stop(fixed)(data) - fixed(samples)),
        "discriminator": F.softplus(on_fake - on_real) + penalty / 2 * (real_slope + fake_slope),
    }


@guarded(needs_the_pair)
def discriminate(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    noise: Tensor,
    penalty: float,
    spread: float,
    centring: float,
) -> dict[str, Tensor]:
    """The critic of adversarial flow models: states x_t on the path against jumps G = F(x_s, s, t) from the same path.

        softplus(D(G) - D(x_t)) + penalty |s - t| (r(x_t) + r(G)) + centring (D(x_t) + D(G))^2,
        r(x) = (D(x + spread n) - D(x))^2 / spread^2, with mean |grad D|^2 for a small spread

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        discriminator: The critic D, (x, t, condition) -> logits.
        noise: Normal numbers n of x's shape.
        penalty: Factor of both penalties of the slope.
        spread: Size of the noise.
        centring: Factor of the squared sum of logits.

    Returns:
        The loss and the margin by name, (B, n) as the logits are.
    """
    D = judge(discriminator, teacher.pair.condition, t)
    with full_precision(x.device):
        real, fake = teacher(x, s, t), stop(flow)(x, s, t)
        on_real, on_fake = D(real), D(fake)
        slopes = slope_by_noise(D, real, on_real, noise, spread) + slope_by_noise(D, fake, on_fake, noise, spread)
        regular = penalty * (s - t).abs().reshape(-1, 1) * slopes + centring * (on_real + on_fake).square()
    return {"discriminator": F.softplus(on_fake - on_real) + regular, "margin": stop(on_real - on_fake)}


@guarded(needs_the_pair)
def deceive(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, discriminator: Any, transport: float
) -> dict[str, Tensor]:
    """The flow of adversarial flow models, against the critic of `discriminate`.

        softplus(D(x_t) - D(G)) + transport |G - x_s|^2 / |s - t|,   G = F(x_s, s, t)

    The second part, a mean over coordinates, prefers short ways, which makes the map unique.

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        discriminator: The critic D, (x, t, condition) -> logits.
        transport: Factor of the cost of transport.

    Returns:
        Both losses and the margin by name: (B, n) as the logits are, the cost (B, ...).
    """
    D = judge(with_constant_weights(discriminator), teacher.pair.condition, t)
    fake = flow(x, s, t)
    margin = stop(D)(teacher(x, s, t)) - D(fake)
    cost = transport * (fake - x).square() / (s - t).abs().clamp(min=SHORTEST)
    return {"adversarial": F.softplus(margin), "transport": cost, "margin": stop(margin)}


@guarded(needs_the_pair)
def discriminate_noised(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    game: Game,
    level: Tensor,
    noise: Tensor,
    nearby: Tensor,
    penalty: float,
    spread: float,
) -> dict[str, Tensor]:
    """A critic of samples F(x_s, s, 0) and data x_0, both at one noise level and with the same noise.

        loss of (D(a x_0 + b n), D(a F + b n)) + penalty (D(y + spread n') - D(y))^2 / spread^2,   y = a x_0 + b n

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, which are 0.
        discriminator: The critic D, (x, level, condition) -> logits.
        game: The losses of the logits.
        level: Times (B, 1, ...) of the noise; 0 for clean samples.
        noise: Normal numbers n of x's shape.
        nearby: Normal numbers n' of x's shape.
        penalty: Factor of the penalty of the slope.
        spread: Size of its noise.

    Returns:
        The loss and the margin by name, (B, n) as the logits are.
    """
    pair = teacher.pair
    D = judge(discriminator, pair.condition, level)
    with full_precision(x.device):
        real, fake = (pair.path.interpolate(z, noise, level) for z in (pair.x0, stop(flow)(x, s, 0.0)))
        on_real, on_fake = D(real), D(fake)
        slope = slope_by_noise(D, real, on_real, nearby, spread)
    return {"discriminator": game.critic(on_real, on_fake) + penalty * slope, "margin": stop(on_real - on_fake)}


@guarded(needs_the_pair)
def deceive_noised(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    game: Game,
    level: Tensor,
    noise: Tensor,
) -> Tensor:
    """The flow against the critic of `discriminate_noised`, with its arguments. Returns the loss (B, n)."""
    pair = teacher.pair
    D = judge(with_constant_weights(discriminator), pair.condition, level)
    return game.flow(D(pair.path.interpolate(flow(x, s, 0.0), noise, level)))


def deceive_and_follow(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    discriminator: Any,
    data: Any,
    game: Game,
    level: Tensor,
    noise: Tensor,
    strength: float,
) -> dict[str, Tensor]:
    """The flow against the critic of clean samples, beside the distance from the denoiser f of a teacher.

        loss of D(y) + strength a |y - sg f(a y + b n)|^2,   y = F(x_s, s, 0),  a, b the path at the noise level

    Args:
        flow: The flow map.
        teacher: The teacher.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, which are 0.
        discriminator: The critic D, (x, 0, condition) -> logits.
        data: The sampled pair.
        game: The losses of the logits.
        level: Times (B, 1, ...) of the noise that the teacher removes.
        noise: Normal numbers n of x's shape.
        strength: Factor of the distance.

    Returns:
        Both losses by name: (B, n) as the logits are, the distance (B, ...).
    """
    pair, sample = data.pair, flow(x, s, 0.0)
    D = judge(with_constant_weights(discriminator), pair.condition, torch.zeros_like(s))
    target = stop(teacher.field)(pair.path.interpolate(stop(sample), noise, level), level, level)
    distance = strength * pair.path.alpha(level) * (sample - target).square()
    return {"adversarial": game.flow(D(sample)), "distillation": distance}


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


def judge(network: Any, condition: dict[str, Any], *times: Tensor) -> Judge:
    """A critic of states alone, with its condition and times (B, 1, ...) bound."""
    return lambda x: rows(network(x, *(time.reshape(-1) for time in times), **condition), x)


def with_constant_weights(network: Any) -> Any:
    """A network with constant weights; gradients pass through its input."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    return lambda *inputs, **condition: torch.func.functional_call(network, weights, inputs, condition)


def slope_by_noise(D: Judge, x: Tensor, logits: Tensor, noise: Tensor, spread: float) -> Tensor:
    """The square of a slope along noise, (D(x + spread n) - D(x))^2 / spread^2, with mean |grad D|^2 to first order.

    Args:
        D: The critic.
        x: States, (B, ...).
        logits: D(x), (B, n).
        noise: Normal numbers n of x's shape.
        spread: Size of the noise.

    Returns:
        The square, (B, n).

    Raises:
        TypeError: The states have half precision, in which the difference has no digits.
    """
    if x.dtype.itemsize < 4:
        raise TypeError(f"the penalty of a critic's slope needs float32 or float64 states, got {x.dtype}")
    return ((D(x + spread * noise) - logits) / spread).square()


def logits_and_slope(D: Judge, x: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate a critic and its squared gradient, with gradients to the weights.

    Args:
        D: The critic.
        x: States, (B, ...).

    Returns:
        D(x) of shape (B, n), and |grad D(x)|^2 of shape (B, 1).
    """
    logits, pull = torch.func.vjp(lambda x: D(x.view_as(x)), x)  # type: ignore[misc]
    (slope,) = pull(torch.ones_like(logits))
    return logits, slope.flatten(1).square().sum(1, keepdim=True)


def logits_and_slopes(network: Any, condition: dict[str, Any], x: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate a critic D(x, s) and its gradients in x and in s, with gradients to the weights.

    Args:
        network: The critic.
        condition: Its keyword arguments.
        x: States, (B, ...).
        s: Times, (B, 1, ...).

    Returns:
        D of shape (B, 1), and its gradients of the shapes of x and s.

    Raises:
        ValueError: The critic has several logits, whose sum would be differentiated.
    """

    def critic(x: Tensor, s: Tensor) -> Tensor:
        return judge(network, condition, s)(x.view_as(x))  # hooks of modules want no leaf

    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        logits, pull = torch.func.vjp(critic, x, s)  # type: ignore[misc]
        if logits.shape[1] != 1:
            raise ValueError(f"a critic of velocities returns one logit for each row, got {logits.shape[1]}")
        return logits, *pull(torch.ones_like(logits))


def rate(along_x: Tensor, along_s: Tensor, w: Tensor) -> Tensor:
    """The rate of change of a critic along (w, 1), dD/dx . w + dD/ds, (B, 1)."""
    return (along_x * w).flatten(1).sum(1, keepdim=True) + along_s.reshape(-1, 1)


def rows(logits: Tensor, x: Tensor) -> Tensor:
    """Reshape logits of any shape to one row for each state.

    Args:
        logits: The logits, (B,) or (B, ...).
        x: The states, (B, ...).

    Raises:
        ValueError: The logits have no row for each state.
    """
    if not isinstance(logits, Tensor) or not logits.ndim or len(logits) != len(x):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"a critic returns logits ({len(x)},) or ({len(x)}, n) for {len(x)} states, got {got}")
    return logits.reshape(len(logits), -1)


def shown_alone(first: Any, this: Any, flow: FlowMap) -> float:
    """Balance of a number that is shown in training and adds nothing to the loss."""
    return 0.0
