"""The heads of `benchmarks.speech`: a flow map, a mean, and a mixture of Gaussians, on the same backbone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import flowmaps as fm
from flowmaps.method.term import noise_alone

BACKBONE, WIDTH, DEPTH, COMPONENTS = 256, 128, 3, 16
"""Width of the backbone and of the heads, blocks of a head, and Gaussians of a mixture."""


class Direct(nn.Module):
    """A head without noise: a residual MLP from the context alone to numbers of the next frame.

    It is `networks.Head` at a frame of zeros and fixed times.

    Args:
        channels: Numbers of a frame.
        outputs: Numbers of the prediction.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.shape = (channels,)
        self.inner = fm.networks.Head(outputs, BACKBONE, WIDTH, DEPTH)
        nn.init.normal_(self.inner.output.weight, std=0.02)

    def predicted(self, context: Tensor) -> Tensor:
        """The prediction (n, outputs)."""
        zero = context.new_zeros(len(context), self.inner.shape[0])
        return self.inner(zero, zero[:, 0], zero[:, 0], context)


class MeanHead(Direct):
    """The mean of the next frame: its jump from any noise is the mean."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """V(x, 1, 0) = x - mean."""
        return x - self.predicted(context)


class MixtureHead(Direct):
    """A mixture of Gaussians with diagonal covariances: its jump takes the noise to a component by chance."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, COMPONENTS * (2 * channels + 1))

    def parts(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights (n, K), means (n, K, C) and log standard deviations (n, K, C)."""
        values = self.predicted(context).unflatten(1, (COMPONENTS, -1))
        mean, log_std = values[..., 1:].chunk(2, -1)
        return values[..., 0].log_softmax(1), mean, log_std.clamp(-5, 3)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """V(x, 1, 0) = x - (mean_k + std_k x) with a component k that is drawn."""
        log_weight, mean, log_std = self.parts(context)
        rows, k = torch.arange(len(x)), torch.multinomial(log_weight.exp(), 1)[:, 0]
        return x - (mean[rows, k] + log_std[rows, k].exp() * x)

    def log_prob(self, frame: Tensor, context: Tensor) -> Tensor:
        """Log-density (n,) of frames (n, C)."""
        log_weight, mean, log_std = self.parts(context)
        z = (frame[:, None] - mean) * (-log_std).exp()
        log_p = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(log_weight + log_p.sum(-1), 1)


def at_one(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sampler of the times of one jump from noise, (1, 0)."""
    return torch.ones(n, device=like.device), torch.zeros(n, device=like.device)


def squares(flow: fm.FlowMap, teacher: fm.velocity.Conditional, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """The jump minus the data: its mean square is least at the mean."""
    return flow(x, s, t) - teacher.pair.x0


def likelihood(flow: fm.FlowMap, teacher: fm.velocity.Conditional, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Minus the log-density of the next frame, for each of its numbers, (n, 1)."""
    head: Any = flow.network
    frame = teacher.pair.x0
    return -head.head.log_prob(frame, flow.condition["context"])[:, None] / frame.shape[1]


def direct(rule: Any, weight: Any) -> fm.Method:
    """A method of a head without times."""
    return fm.Method(fm.Term(rule, times=at_one, weight=weight, start=noise_alone), name=rule.__name__)


@dataclass(frozen=True)
class HeadEntry:
    """A head.

    Attributes:
        title: Its name in tables.
        network: Function from the numbers of a frame to the network.
        method: Function that makes the method of frames.
        samplers: Number and kind of its steps, by their names in tables.
        repeats: Noise draws of a frame in training.
        limits: Times of a partial map.
    """

    title: str
    network: Callable[[int], nn.Module]
    method: Callable[[], fm.Method]
    samplers: dict[str, tuple[int, Any]]
    repeats: int = 1
    limits: dict[str, float] | None = None


TIMES = fm.times.mixture(0.5, fm.times.logit_normal_pairs(-0.4, 1.0), fm.times.uniform_triangle(1e-3))


def lsd() -> fm.Method:
    """Lagrangian self-distillation with a learned weight, as in pocket-tts."""
    return fm.methods.lsd(diagonal=0.75, times=TIMES, weight=fm.weight.learned())


def imf() -> fm.Method:
    """Improved MeanFlow with the same times and weight."""
    return fm.methods.imf(diagonal=0.75, times=TIMES, weight=fm.weight.learned())


JUMP = {"1 jump": (1, fm.steps.jump)}
FLOW = {**JUMP, "4 jumps": (4, fm.steps.jump), "16 Euler steps": (16, fm.steps.euler)}
ONE: dict[str, float] = {"only_source": 1.0, "only_target": 0.0}


def head(channels: int) -> nn.Module:
    """The network of a flow map of frames."""
    return fm.networks.Head(channels, BACKBONE, WIDTH, DEPTH)


HEADS = {
    "flow_map": HeadEntry("flow map, lsd", head, lsd, FLOW, repeats=4),
    "flow_map_imf": HeadEntry("flow map, imf", head, imf, FLOW, repeats=4),
    "mean": HeadEntry("mean", MeanHead, lambda: direct(squares, fm.weight.squared), JUMP, limits=ONE),
    "mixture": HeadEntry(
        f"mixture of {COMPONENTS} Gaussians",
        MixtureHead,
        lambda: direct(likelihood, fm.weight.plain),
        JUMP,
        limits=ONE,
    ),
}


def flow_of(head: str, data: fm.data.Data) -> fm.FlowMap:
    """The flow map of frames with new weights."""
    entry, channels = HEADS[head], data.shape[1]
    backbone = fm.networks.Recurrent(channels, BACKBONE, classes=data.classes)
    flow = fm.FlowMap(entry.network(channels), **(entry.limits or {}))
    return fm.Autoregressive(flow, backbone, ends=True).flow
