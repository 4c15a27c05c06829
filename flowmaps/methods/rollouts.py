"""On-policy starts: the rules of a distillation method at the states of the student's own jumps.

A student that jumps a few times meets states that data with noise never showed it, and its errors add up. Trained at
the states of its own jumps, without gradient through them, it learns where it will be used: the backward simulation of
DMD2 (Yin et al. 2024, arXiv 2405.14867). Self-Forcing (Huang et al. 2025, arXiv 2506.08009) does so with video models
that sample frame after frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from ..arguments import at_least, finite, shown
from ..derivative import stop
from ..draws import Numbers, normal
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.several import Several
from ..method.term import OnPolicy, Term, from_data, noise_alone
from ..path import expand
from ..velocity import Pair, is_conditional

FRESH = "noise of rollouts"


@dataclass(frozen=True)
class Rollout(OnPolicy):
    """Start at states of the map's own jumps at any source time, not only at the levels of its sampler.

    Jumps lead from noise down the levels above s, and one more jump leads from the last of them to s. At a level the
    state is the sampler's own, as in `fm.term.OnPolicy`; between levels it is the end of one of its jumps, cut short.
    So the times of a method stay its own. It costs a pass for each level.

    Args:
        levels: Source times of the sampler's jumps, from 1 downwards.

    Raises:
        ValueError: The levels do not fall from 1 to a positive number.
    """

    @classmethod
    def of_jumps(cls, jumps: int) -> Self:
        """The rollout of a sampler with equal jumps.

        Args:
            jumps: Number of jumps from noise to data.

        Returns:
            The start, with levels 1, 1 - 1/jumps, ..., 1/jumps.

        Raises:
            ValueError: There is less than one jump.
        """
        at_least(1, jumps=jumps)
        return cls(tuple(k / jumps for k in range(jumps, 0, -1)))

    def __call__(self, flow: FlowMap, pair: Pair, s: Tensor) -> Tensor:
        """The state x_s of each row."""
        x = noise_alone(flow, pair, s)
        s = expand(s, x)
        here = torch.ones_like(s)
        for level, below in pairwise(self.levels):
            passed = s <= below
            x = torch.where(passed, stop(flow)(x, level, below), x)
            here = torch.where(passed, below, here)
        return stop(flow)(x, here, s)


@dataclass(frozen=True)
class RestartedRollout(Rollout):
    """Start at states of a map to t = 0 alone, at any source time: jumps to data, with new noise added.

    It is `Rollout` for the sampler `steps.restart`. Arguments and errors as for `Rollout`; a level costs a pass.
    """

    @property
    def draws(self) -> Mapping[str, Numbers]:
        """The noise of all restarts, (n, levels, ...)."""
        count = len(self.levels)
        return {FRESH: lambda n, like: normal(n * count, like).unflatten(0, (n, count))}

    def __call__(self, flow: FlowMap, pair: Pair, s: Tensor) -> Tensor:
        """The state x_s of each row."""
        x = noise_alone(flow, pair, s)
        s = expand(s, x)
        here, fresh = torch.ones_like(s), pair.numbers[FRESH].unbind(1)
        for (level, below), noise in zip(pairwise(self.levels), fresh, strict=False):
            passed = s <= below
            x = torch.where(passed, flow.path.renoise(stop(flow)(x, level, 0.0), 0.0, below, noise), x)
            here = torch.where(passed, below, here)
        return torch.where(s == here, x, flow.path.renoise(stop(flow)(x, here, 0.0), 0.0, s, fresh[-1]))


def off_diagonal(term: Term) -> bool:
    """Whether a term learns jumps: its rule has a target time apart from the source time."""
    return not term.diagonal


def on_policy(
    method: Method,
    start: Rollout | None = None,
    *,
    share: float = 1.0,
    which: Callable[[Term], bool] = off_diagonal,
) -> Method:
    """Move terms of a method to the states of the flow map's own jumps.

        on_policy(fm.methods.lmd(teacher), fm.methods.Rollout.of_jumps(4))

    The times of the terms stay their own, and no gradient flows through the states. The rules hold at every state, so
    the true flow map is still a zero of the loss. A method whose terms all move needs no data.

    Args:
        method: The method, such as a distillation by a teacher.
        start: The states: `Rollout`, or `RestartedRollout` for maps to t = 0 alone. None: `Rollout` of four jumps.
        share: Share of each moved term's rows that start on policy; the others start at data with noise.
        which: Function from a term to whether it moves. By default the terms that learn jumps; `lambda term: True` for
            all.

    Returns:
        The method, named "METHOD_on_policy". Terms in two parts are named "TERM" and "TERM_on_policy".

    Raises:
        TypeError: The method is no `Method`, or the start no `Rollout`.
        ValueError: A term needs the conditional velocity, or has a start of its own; no term moves; the method has
            stages or turns; or the share is outside (0, 1].
    """
    start = Rollout.of_jumps(4) if start is None else start
    if not isinstance(method, Method):
        raise TypeError(f"a Method is moved on policy, such as fm.methods.lmd(teacher), got {shown(method)}")
    if not isinstance(start, Rollout):
        raise TypeError(f"on-policy states are a Rollout, such as fm.methods.Rollout.of_jumps(4), got {shown(start)}")
    finite(share=share)
    if not 0 < share <= 1:
        raise ValueError(f"the share of on-policy rows must lie in (0, 1], got {share}")
    if isinstance(method, Several):
        raise ValueError(
            f"{method.name} is made of several methods, one for each {method.kind}: move one of them on policy before "
            "they are put together, or take dmd2(teacher, steps=4), whose states are on policy already"
        )
    moved = [term.name for term in method.terms if which(term)]
    if not moved:
        raise ValueError(f"{method.name} has no term to move on policy: its terms are {_names(method)}")
    terms = [part for term in method.terms for part in (_parts(term, start, share) if which(term) else (term,))]
    made = Method(*terms, name=f"{method.name}_on_policy")
    made.hidden, made.trains_flow = method.hidden, method.trains_flow
    return made


def _parts(term: Term, start: Rollout, share: float) -> tuple[Term, ...]:
    """The term on policy, after the rest of it if there is one."""
    if any(map(is_conditional, (term.velocity, *term.sources.values()))):
        raise ValueError(
            f"the term {term.name} cannot start on policy: it needs the conditional velocity eps - x_0, which is right "
            "at x_s made of these x_0 and eps alone, and the map's own jumps lead elsewhere; take a method that learns "
            "there from a teacher or from the map itself, such as lmd, emd or lsd"
        )
    if term.start is not from_data:
        raise ValueError(
            f"the term {term.name} has states of its own, by {shown(term.start)}, and cannot start on policy too"
        )
    if share == 1:
        return (replace(term, start=start),)
    name = f"{term.name}_on_policy"
    balance = {name if key == term.name else key: value for key, value in term.balance.items()}
    there = replace(term, start=start, share=term.share * share, name=name, balance=balance)
    return replace(term, share=term.share * (1 - share)), there


def _names(method: Method) -> str:
    return ", ".join(term.name for term in method.terms)
