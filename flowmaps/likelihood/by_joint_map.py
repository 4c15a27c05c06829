"""Log-densities by a joint map, a flow map of the state and its log-density: one network call for each jump.

log p_0(x_0) = log N(z) + sum (t - s) D(x_s, s, t),   from x_0 to z, one term for each jump
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least, expect_finite, expect_floating
from ..flow_map import FlowMap, like_weights
from ..networks import DivergenceHead, WithDivergence
from ..networks.embeddings import LabelEmbedding
from ..path import Path
from ..sampling import Condition
from ..sampling.grid import ascending
from ..steps import Step, jump
from ..units import units_of
from ..velocity.joint import ADVICE, Packed, joint_network, packed, unpacked
from .by_jumps import expect_end, refuse_untrained
from .by_ode import ode
from .densities import log_prob
from .result import Estimator, LogProb, log_noise, refuse_curved

MOST = 1024
"""Number of values in a row up to which the scale of a head is computed from the whole covariance of the data."""
FEW, WAVES, NARROW = 3, 32, 128
"""Number of values in a row up to which the usual head sees sines and cosines of x, their directions, and its width."""
THIN = 0.02
"""Standard deviation of a direction, relative to the largest, below which it is taken as this wide."""


def joint_map(
    flow: FlowMap,
    x0: Tensor,
    head: nn.Module | None = None,
    scale: float | None = None,
    *,
    frozen: bool = False,
) -> FlowMap:
    """Give a flow map a head for the mean divergence along its jumps, so that it also knows log-densities.

        l_t = l_s - (t - s) D(x_s, s, t),     D = the mean of div v along the path from s to t

    The result is a flow map of the same weights: sampling, evaluation and saving work as before, and
    `fm.methods.f2d2` trains it, from new weights or from trained ones. Then `joint(steps)` is an estimator of
    log-densities, and `sample(..., by=head)` gives them along with samples.

    Args:
        flow: The flow map. Its network is shared, not copied.
        x0: Data in the units of the flow, (B, ...), for the shape and the scale of the head.
        head: A network (x, s, t) -> (B, 1) that predicts D / scale, with the conditions of the flow's network. None: a
            `fm.networks.DivergenceHead`, which is narrow and sees sines and cosines of x for at most three values.
        scale: Size of the divergence. None: the root mean square of the divergence of a Gaussian with the covariance of
            x0, over uniform times.
        frozen: Whether the weights of the flow are frozen, so that the head alone is trained.

    Returns:
        The joint map.

    Raises:
        TypeError: The flow is no FlowMap, or has a head already.
        ValueError: The data are not finite, or the weights are to be frozen and were not trained in both directions.
    """
    if not isinstance(flow, FlowMap) or joint_network(flow) is not None:
        raise TypeError("joint_map takes a FlowMap without a head")
    refuse_curved(flow, "joint maps")
    expect_floating("x0", x0)
    at_least(2, rows=len(x0))
    expect_finite("x0", x0)
    if frozen and flow.trained is not None and not (flow.trained.up and flow.trained.down):
        raise ValueError(
            "a head beside frozen weights follows their jumps, and this flow map was trained in one direction of time: "
            "train it with times=fm.times.both_directions(...), or train all weights by fm.methods.f2d2"
        )
    units = units_of(flow)
    rows = (x0 if units is None else units.standardised(x0)).detach().double().cpu()
    found = typical_divergence(variances_of(rows), flow.path) if scale is None else scale
    made = _usual_head(flow, rows) if head is None else head
    like = like_weights(flow)
    made = made if like is None or head is not None else made.to(like)
    if frozen:
        flow.network.requires_grad_(False)
    return flow.around(WithDivergence(flow.network, made, found))


def _usual_head(flow: FlowMap, rows: Tensor) -> DivergenceHead:
    """The head for rows of data and the labels of the network."""
    parts = flow.network.modules() if isinstance(flow.network, nn.Module) else ()
    classes = next((part.classes for part in parts if isinstance(part, LabelEmbedding)), None)
    shape = tuple(rows.shape[1:])
    sizes = {"width": NARROW, "waves": WAVES} if math.prod(shape) <= FEW else {}
    return DivergenceHead(shape, classes=classes, data_std=max(float(rows.std()), 1e-3), **sizes)


def variances_of(x0: Tensor) -> Tensor:
    """Variances of data along their principal axes, (D,), or of their values if there are more than `MOST`.

    A direction that is thinner than `THIN` of the widest one is taken as this wide.
    """
    centred = x0.flatten(1).double() - x0.flatten(1).double().mean(0)
    if centred.shape[1] <= MOST:
        variances = torch.linalg.eigvalsh(centred.T @ centred / len(centred))
    else:
        variances = centred.square().mean(0)
    return variances.clamp(min=max(float(variances.max()) * THIN**2, 1e-12))


def typical_divergence(variances: Tensor, path: Path, points: int = 64) -> float:
    """Root mean square over uniform times of the divergence of the velocity of a Gaussian.

        div v = sum_i (alpha alpha' l_i + sigma sigma') / (alpha^2 l_i + sigma^2),   l_i the variances

    Args:
        variances: Its variances, (D,).
        path: The path.
        points: Number of times.

    Returns:
        The size.
    """
    t = ((torch.arange(points, dtype=torch.float64) + 0.5) / points)[:, None]
    alpha, sigma = path.alpha(t), path.sigma(t)
    slopes = alpha * path.alpha_slope(t, t) * variances + sigma * path.sigma_slope(t, t)
    divergence = (slopes / (alpha**2 * variances + sigma**2)).sum(1)
    return max(float(divergence.square().mean().sqrt()), 1e-3 * math.sqrt(len(variances)))


@dataclass(frozen=True)
class Joint:
    """Log-densities by a joint map; see `joint`."""

    times: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        expect_end(self.times)

    def __call__(self, flow: Any, x0: Tensor) -> LogProb:
        """Log-densities of rows, from data to noise.

        Args:
            flow: The joint map, its condition bound.
            x0: Rows, (B, ...).

        Returns:
            The log-densities.

        Raises:
            TypeError: The flow has no head.
            ValueError: The head is untrained, or the map was not trained on jumps from data to noise.
        """
        refuse_curved(flow, "joint maps")
        refuse_untrained(flow, self.times, jump)
        z, change, _ = head(flow, x0, self.times)
        return LogProb(log_noise(flow, z) + change, z, passes=len(self.times) - 1)


def head(
    flow: Any, x: Tensor, times: Sequence[float], step: Step = jump, chunk: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow the jumps of a joint map, and add up the mean divergence along each.

    Args:
        flow: The joint map.
        x: States at the first time, (B, ...).
        times: The times.
        step: `steps.jump`.
        chunk: Not used, because nothing is differentiated.

    Returns:
        The last states, the sums of (t - s) D, which stand for log |det dF/dx|, (B,), and no folds, (B,).

    Raises:
        TypeError: The flow has no head.
        ValueError: The head is untrained, or the steps are no jumps.
    """
    refuse_curved(flow, "joint maps")
    if step is not jump:
        raise ValueError("the head of a joint map knows the log-densities of jumps alone: leave step= out")
    network = joint_network(flow)
    if network is None:
        raise TypeError(
            f"this flow has no head for its divergence, so it knows no log-densities by jumps of a joint map: {ADVICE} "
            "gives it one, which fm.methods.f2d2 trains; or take fm.likelihood.ode(), or jumps(steps)"
        )
    if getattr(network.head, "is_untrained", False):
        raise ValueError(
            "the head of this joint map is untrained, its output layer is zero: train it by fm.methods.f2d2(), because "
            "other methods train the state alone"
        )
    map_, y = Packed(flow, tuple(x.shape[1:])), packed(x)
    for s, t in pairwise(times):
        y = map_(y, s, t)
    x, change = unpacked(y, x.shape[1:])
    gained = change[:, 0].to(torch.promote_types(x.dtype, torch.float32)) * network.scale
    return x, -gained, torch.zeros(len(x), dtype=torch.long, device=x.device)


def joint(steps: int | None = None, *, times: Sequence[float] | None = None) -> Joint:
    """Estimator: the jumps of a joint map from data to noise, with the mean divergence along each (F2D2).

        log p_0(x_0) = log N(z) + sum (t - s) D(x_s, s, t)

    A jump costs one call of the network and of the head. The value has no guarantee: it is as good as the head is, and
    `gap` compares it with the ODE of the same flow map.

    Args:
        steps: Number of equal jumps. None: 1.
        times: Times of the states instead, from data to noise, 0 to 1.

    Returns:
        The estimator, for maps that `fm.methods.f2d2` has trained in both directions of time. Ai et al. 2025,
        arXiv 2512.02636.

    Raises:
        ValueError: The times go from noise to data, lie outside [0, 1] or do not end at 1.
    """
    return Joint(tuple(ascending(steps, times)))


@dataclass(frozen=True)
class Gap:
    """Log-densities by a joint map beside a reference.

    Attributes:
        joint: By the joint map.
        reference: By the other estimator.
        difference: joint - reference, in nats, (B,).
        mean_absolute: The mean of |joint - reference|.
        passes: Calls of the joint map and of the reference, for one row.
    """

    joint: Tensor
    reference: Tensor
    difference: Tensor
    mean_absolute: float
    passes: tuple[int, int]

    def __repr__(self) -> str:
        return (
            f"Gap(mean absolute {self.mean_absolute:.4g} nats, largest {float(self.difference.abs().max()):.4g}, "
            f"{self.passes[0]} against {self.passes[1]} calls)"
        )


def gap(
    flow: Any, x0: Tensor, steps: int | None = None, *, by: Estimator | None = None, condition: Condition = None
) -> Gap:
    """Compare the log-densities of a joint map, which have no guarantee, with its ODE.

    Args:
        flow: The joint map.
        x0: Data in the units of the flow, (B, ...).
        steps: Number of equal jumps. None: 1.
        by: The estimator to compare with. None: `ode()`.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.

    Returns:
        Both log-densities and their difference.

    Raises:
        TypeError: As `log_prob`.
        ValueError: As `log_prob`.
    """
    found = log_prob(flow, x0, by=joint(steps), condition=condition)
    reference = log_prob(flow, x0, by=ode() if by is None else by, condition=condition)
    difference = found.value - reference.value
    passes = found.passes, reference.passes
    return Gap(found.value, reference.value, difference, float(difference.abs().mean()), passes)
