"""Post-training on a reward through samples: direct backpropagation, and policy gradients of a stochastic sampler."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least, checked, positive, shown
from ..method.method import Method
from ..method.term import Term, noise_alone
from ..steps import restart
from ..velocity import fixed
from ..velocity.copies import copied
from ..weight import plain
from .parts import one_jump
from .rewards import Rewards, rewards_of

__all__ = ["grpo", "reward_backpropagation"]


@checked
def reward_backpropagation(reward: Rewards, beta: float, reference: Any) -> Method:
    """Direct backpropagation of a reward through one jump, with a penalty on the distance to a reference.

        E[-r(F(z, 1, 0)) + beta |F(z, 1, 0) - F_ref(z, 1, 0)|^2]

    It is fast, and it does not reach the tilted law: the penalty is on transport, not on the divergence of laws. For a
    linear reward c . x the optimum moves every sample by c/(2 beta) and no weight between modes, however unlikely a
    mode is under the tilted law. Report the weights of modes, or use `tilting`.

    Args:
        reward: Differentiable function of data (B, ...) -> (B,), in the units of the data.
        beta: Strength of the penalty, for the sum over coordinates.
        reference: Flow map with the jump F_ref. It is copied, so it may be the one in training.

    Raises:
        TypeError: The reward is no function, or the reference has no jumps.
        ValueError: beta is not positive. In calls: the reward returns another shape.
    """
    _expect_reward(reward)
    positive(beta=beta)
    rule = partial(through_jump, reward=reward, beta=beta)
    term = Term(rule, fixed(_kept(reference)), times=one_jump, weight=plain, start=noise_alone, name="reward")
    return Method(term, name="reward_backpropagation")


def through_jump(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, reward: Rewards, beta: float
) -> dict[str, Tensor]:
    """The two losses of direct backpropagation.

    Args:
        flow: The flow map.
        teacher: The reference.
        x: Noise, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        reward: The reward.
        beta: Strength of the penalty.

    Returns:
        `reward`, -r(F), and `penalty`, beta |F - F_ref|^2, each (B, 1).
    """
    x0 = flow(x, s, t)
    with torch.no_grad():
        before = teacher(x, s, t)
    distance = (x0 - before).flatten(1).square().sum(1, keepdim=True)
    return {"reward": -rewards_of(reward, flow, x0)[:, None], "penalty": beta * distance}


@checked
def grpo(reward: Rewards, beta: float, reference: Any, *, steps: int = 2, width: float = 0.1) -> Method:
    """Anchored policy gradients: rollouts by restarts (jump to the data, re-noise), scored by their Gaussians.

        x_t' ~ N(alpha(t') F(x_t, t, 0), sigma(t')^2),   ...,   x_0 = F(x_t, t, 0)
        maximise  E r(x_0) - beta sum KL(transition | transition of the reference)

    The gradient has two parts. The score-function estimate, with the mean reward of the other rollouts of the batch as
    baseline, needs no derivative of the reward, and it does not see the last jump, which is deterministic. The pathwise
    gradient of the last jump is added: without it two jumps at t = 1/2 of a standard normal see 0.707 of a gradient of
    1.707. In the divergence the last jump counts as a Gaussian of standard deviation `width`. The objective is at most
    beta log E e^{r/beta} under the reference, with equality for the tilted law: `fm.evaluate.reward_bound`. Flow-Map
    GRPO, arXiv 2607.00535, whose treatment of the last jump is not known to us; advantages are not divided by their
    standard deviation, which would bias the gradient.

    Args:
        reward: Differentiable function of data (B, ...) -> (B,), in the units of the data.
        beta: Strength of the divergence.
        reference: Flow map of the reference. It is copied, so it may be the one in training.
        steps: Jumps of a rollout, at equal steps of time.
        width: Standard deviation of the last jump in the divergence, in the units of the data.

    Raises:
        TypeError: The reward is no function, or the reference has no jumps.
        ValueError: A number is out of range. In calls: the reward returns another shape, or there is one rollout.
    """
    _expect_reward(reward)
    positive(beta=beta, width=width)
    at_least(1, steps=steps)
    rule = partial(rollout, reward=reward, beta=beta, width=width)
    term = Term(
        rule,
        fixed(_kept(reference)),
        times=partial(_on_rollouts, steps),
        weight=plain,
        start=noise_alone,
        draws={"eps": partial(_noise, steps - 1)},
        name="rollout",
    )
    return Method(term, name="grpo")


def rollout(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    eps: Tensor,
    reward: Rewards,
    beta: float,
    width: float,
) -> dict[str, Tensor]:
    """The three losses of anchored policy gradients on one rollout of each row.

    Args:
        flow: The flow map.
        teacher: The reference.
        x: Noise, (B, ...).
        s: Not used; the rollout starts at 1 and takes all its jumps.
        t: Not used; it ends at 0.
        eps: Fresh noise of the transitions, (B, steps - 1, ...).
        reward: The reward.
        beta: Strength of the divergence.
        width: Standard deviation of the last jump in the divergence.

    Returns:
        `policy` (its gradient is the score-function estimate, its value means nothing), `pathwise`, -r(x_0) through the
        last jump, and `divergence`, beta times the sum of divergences, each (B, 1).
    """
    if len(x) < 2:
        raise ValueError("policy gradients compare the rollouts of a batch, so it needs two rows or more, got one")
    jumps = eps.shape[1] + 1
    times = [1 - k / jumps for k in range(jumps)]
    score, divergence = x.new_zeros(len(x)), x.new_zeros(len(x))
    for k, (start, end) in enumerate(pairwise(times)):
        mean, std = restart.moments(flow, x, start, end)
        with torch.no_grad():
            before, _ = restart.moments(teacher, x, start, end)
            x_next = (mean + std * eps[:, k]).to(x.dtype)
        score = score - _square((x_next - mean) / std) / 2
        divergence = divergence + _square((mean - before) / std) / 2
        x = x_next
    x0 = flow(x, times[-1], 0.0)
    with torch.no_grad():
        before = teacher(x, times[-1], 0.0)
    found = rewards_of(reward, flow, x0)
    advantage = (found - found.mean()).detach() * len(x) / (len(x) - 1)  # the others' mean as baseline
    divergence = divergence + _square((x0 - before) / width) / 2
    return {
        "policy": -(advantage * score)[:, None],
        "pathwise": -found[:, None],
        "divergence": beta * divergence[:, None],
    }


def _square(residual: Tensor) -> Tensor:
    """|r|^2 of each row, (B,)."""
    return residual.flatten(1).square().sum(1)


def _noise(transitions: int, n: int, like: Tensor) -> Tensor:
    """Standard normal noise of the transitions of n rows, (n, transitions, ...)."""
    return torch.randn(n, transitions, *like.shape[1:], dtype=like.dtype, device=like.device)


def _on_rollouts(steps: int, n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sample s among the times of a rollout, and t = 0; the record of training reads it."""
    s, t = one_jump(n, progress, like)
    return 1 - torch.randint(0, steps, s.shape, device=s.device) / steps, t


def _expect_reward(reward: Any) -> None:
    """Raise TypeError unless a reward is a function."""
    if not callable(reward):
        raise TypeError(f"a reward is a function of data (B, ...) -> (B,), got {shown(reward)}")


def _kept(reference: Any) -> Any:
    """A frozen copy of a reference; raises TypeError if it has no jumps."""
    if not callable(reference) or isinstance(reference, type):
        raise TypeError(f"the reference is a flow map, whose jumps are compared with, got {shown(reference)}")
    return copied(reference).requires_grad_(False) if isinstance(reference, nn.Module) else reference
