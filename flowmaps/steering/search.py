"""Steering by the noise alone: best of N, importance weights, and Langevin dynamics of the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, brief_repr, expect_floating, positive
from ..flow_map import like_weights
from ..path import expand, linear
from ..sampling.composition import sample, seeding
from ..sampling.grid import descending
from ..sampling.states import Condition, bound_to, by_name, check_noise, placed, restored, standardised
from ..steps import Step, jump, named
from .reward import Rewards, expect_reward, rewarded
from .shared import copies, repeated
from .smc import systematic
from .spread import precise
from .values import Value


@dataclass(frozen=True, repr=False)
class Candidates:
    """Samples of N candidates for each of B rows, with their rewards.

    Attributes:
        x: The best candidate of each row, (B, ...); (keep, B, ...) from the best down if several are kept.
        noise: The noise that they came from, of x's shape.
        rewards: Rewards of all candidates, (N, B).
        samples: All candidates, (N, B, ...).
    """

    x: Tensor
    noise: Tensor
    rewards: Tensor
    samples: Tensor

    @property
    def log_weights(self) -> Tensor:
        """Logarithms of the importance weights e^r, (N, B), with sum 1 in each row."""
        return self.rewards.log_softmax(0)

    @property
    def log_z(self) -> Tensor:
        """Estimate of log Z = log E e^r in each row, (B,)."""
        return self.rewards.logsumexp(0) - math.log(len(self.rewards))

    @property
    def ess(self) -> Tensor:
        """Effective share of the candidates in each row, (B,)."""
        return ((2 * self.log_weights).logsumexp(0)).neg().exp() / len(self.rewards)

    def resampled(self) -> Tensor:
        """N samples of equal weight for each row, (N, B, ...), by systematic resampling of the importance weights."""
        n, rows = self.rewards.shape
        chosen = systematic(self.rewards.T).reshape(rows, n).T % n
        return self.samples[chosen, torch.arange(rows).to(chosen)]

    __repr__ = brief_repr


@torch.no_grad()
def best_of(
    flow: Any,
    reward: Rewards,
    noise: Tensor,
    *,
    keep: int = 1,
    step: Step | str = jump,
    steps: int | None = None,
    times: Sequence[float] | None = None,
    condition: Condition = None,
    seed: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Candidates:
    """Sample N candidates for each row, and keep the best.

    Args:
        flow: The flow map.
        reward: The reward; it sees B rows at a time.
        noise: N candidates for each of B rows, (N, B, ...).
        keep: Number of candidates to keep in each row.
        step: Step of the sampler, as in `fm.sample`.
        steps: Number of steps, as in `fm.sample`.
        times: Times, as in `fm.sample`.
        condition: Conditions of the B rows.
        seed: Seed of random steps.
        batch_size: Rows that the network computes at a time. None: B rows, or 256 if these are more.
        progress: Function (calls of the step, calls in all) that is called after each batch of a step.

    Returns:
        The candidates. Their `log_weights` make them weighted samples of the tilted law p e^r / Z.

    Raises:
        ValueError: The noise has no axis of candidates, or more are kept than there are. In calls: the reward fails its
            checks.

    The best of N has the law N p(x) P(r' <= r(x))^(N-1), whose divergence from p is log N - (N-1)/N for a reward
    without ties.
    """
    expect_reward(reward)
    expect_floating("noise", noise, "(N, B, ...), N candidates for each of B rows", least=3)
    at_least(1, keep=keep)
    if keep > len(noise):
        raise ValueError(f"keep={keep} candidates, and there are {len(noise)}")
    n, rows = noise.shape[:2]
    copied = {name: copies(value, n) for name, value in by_name(condition).items()}
    size = max(rows, 256) if batch_size is None else batch_size
    if progress is not None:
        parts = -(-n * rows // size) * (len(descending(steps, times)) - 1)
        step = counted(named(step), parts, progress)
    options: dict[str, Any] = {"times": times, "step": step, "condition": copied, "seed": seed, "batch_size": size}
    samples = sample(repeated(flow, n), noise.flatten(0, 1), steps, **options).reshape(noise.shape)
    scores = torch.stack([rewarded(reward, x) for x in samples])
    best = scores.topk(keep, 0).indices  # (keep, B)
    places = torch.arange(rows).to(best)
    x, z = samples[best, places], noise.to(samples.device)[best, places]
    return Candidates(x[0] if keep == 1 else x, z[0] if keep == 1 else z, scores, samples)


def counted(step: Step, total: int, progress: Callable[[int, int], None]) -> Step:
    """A step that tells `progress` how often it was called, of `total` calls."""
    done = count(1)

    @wraps(step)
    def after(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        found = step(flow, x, s, t)
        progress(next(done), total)
        return found

    return after


@dataclass(frozen=True, repr=False)
class Chains:
    """States of Markov chains in the space of noise, one chain for each row.

    Attributes:
        x: Data of the last state of each chain, (B, ...).
        noise: Noise of the last state, (B, ...).
        rewards: Their rewards, (B,).
        acceptance: Share of accepted moves, (B,).
    """

    x: Tensor
    noise: Tensor
    rewards: Tensor
    acceptance: Tensor

    __repr__ = brief_repr


def langevin(
    flow: Any,
    noise: Tensor,
    reward: Rewards,
    steps: int,
    size: float,
    *,
    step: Step | str = jump,
    jumps: int = 1,
    condition: Condition = None,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Chains:
    """Metropolis-adjusted Langevin dynamics of the noise: chains whose stationary law is the tilted one.

    Args:
        flow: A flow map that samples in few steps.
        noise: Noise to start from, (B, ...).
        reward: The reward.
        steps: Moves of each chain.
        size: Step size h, in units of the variance of the noise: z' = z - h grad U + sqrt(2 h) eps.
        step: Step of the sampler; a jump by default.
        jumps: Number of steps of the sampler.
        condition: Conditions, as in `fm.sample`.
        seed: Seed; the global generator is left alone.
        progress: Function (moves done, steps) that is called after each move.

    Returns:
        The chains.

    Raises:
        ValueError: A number is out of its range, or the reward has no gradient.

    The energy is U(z) = |z|^2/2 - r(F(z, 1, 0)). A move costs one pass with its gradient. For maps to data in one jump
    it is the alternative to particles (arXiv 2410.02078).
    """
    check_noise(noise)
    expect_reward(reward)
    at_least(1, steps=steps, jumps=jumps)
    positive(size=size)
    chosen, grid = named(step), descending(jumps, None)
    like = like_weights(flow)
    z = placed(like, standardised(flow, noise, 1.0))
    bound = bound_to(flow, {name: placed(like, one) for name, one in by_name(condition).items()}, len(z))
    sees = Value(reward).in_units_of(bound)
    scale = getattr(bound, "path", linear).sigma(expand(1.0, z))

    def energy(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """U and its gradient with respect to the standard noise, the data and the reward."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            x = leaf * scale
            for s, t in zip(grid, grid[1:], strict=False):
                x = chosen(bound, x.to(z.dtype), s, t)
            r = rewarded(sees, x.to(torch.promote_types(x.dtype, torch.float32)))
            U = (leaf.flatten(1) ** 2).sum(1) / 2 - r
            if not r.requires_grad:
                raise ValueError("the reward has no gradient with respect to the noise, which Langevin dynamics follow")
            (slope,) = torch.autograd.grad(U.sum(), leaf)
        return precise(U.detach()), slope.detach(), x.detach(), r.detach()

    def density(to: Tensor, at: Tensor, slope: Tensor) -> Tensor:
        """Logarithm of q(to | at), up to a constant."""
        return -(precise(to - at + size * slope).flatten(1) ** 2).sum(1) / (4 * size)

    with torch.no_grad(), seeding(seed, z.device):
        z = z / scale
        U, slope, x, r = energy(z)
        accepted = torch.zeros_like(U)
        for move in range(steps):
            proposal = (z - size * slope + (2 * size) ** 0.5 * torch.randn_like(z)).to(z.dtype)
            U1, slope1, x1, r1 = energy(proposal)
            ratio = U - U1 + density(z, proposal, slope1) - density(proposal, z, slope)
            yes = torch.rand_like(ratio).log() < ratio
            accepted += yes
            rows = yes.reshape(-1, *[1] * (z.ndim - 1))
            z, slope, x = torch.where(rows, proposal, z), torch.where(rows, slope1, slope), torch.where(rows, x1, x)
            U, r = torch.where(yes, U1, U), torch.where(yes, r1, r)
            if progress is not None:
                progress(move + 1, steps)
    return Chains(restored(bound, x, 0.0), (z * scale).to(x.dtype), r, accepted / steps)


__all__ = ["Candidates", "Chains", "best_of", "langevin"]
