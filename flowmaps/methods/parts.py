"""Parts of several methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..arguments import finite, shown
from ..consistency import diffusion
from ..derivative import stop
from ..flow_map import FlowMap
from ..method.balance import gradient_ratio
from ..method.method import Method
from ..method.several import Several
from ..method.term import Balance, Term
from ..times.samplers import Times, times_like
from ..velocity import Auxiliary, MakeOptimizer


def with_diffusion(share: float, term: Term, times: Times | None = None) -> tuple[Term, Term]:
    """Add a diffusion term to a term, with the same weight.

    Args:
        share: Share of the diffusion term, which learns the diagonal.
        term: The other term.
        times: Sampler of the diagonal; by default s of the other term's sampler.

    Returns:
        The diffusion term, and the other term on the remaining rows.
    """
    diagonal = Term(diffusion, share=share, times=times or term.times, weight=term.weight)
    return diagonal, replace(term, share=1 - share)


def with_term(
    method: Method, term: Term, share: float = 0.25, *, strength: float = 1.0, balance: Balance | None = None
) -> Method:
    """Add a term to a method, such as a term that matches distributions beside a flow-map rule.

        with_term(fm.methods.lsd(), fm.methods.dmd(teacher).terms[0])

    Args:
        method: The method, whose terms keep their proportions.
        term: The term, such as one of the `terms` of another method.
        share: Share of the batch for the term.
        strength: Size of its gradient relative to the gradient of the method's first loss.
        balance: Factor of the loss that has the term's name, instead of the ratio of gradients (`fm.balance`).

    Returns:
        The method, named "METHOD_with_TERM".

    Raises:
        ValueError: The share is not inside (0, 1); the method has stages or turns, or a term of this name.
    """
    if not isinstance(method, Method) or not isinstance(term, Term):
        wrong = term if isinstance(method, Method) else method
        raise TypeError(f"a Term is added to a Method, such as fm.methods.imf(), got {shown(wrong)}")
    finite(share=share, strength=strength)
    if isinstance(method, Several):
        raise ValueError(
            f"{method.name} is made of several methods, one for each {method.kind}: add the term to one of them before "
            "they are put together"
        )
    if not 0 < share < 1:
        raise ValueError(f"the share of the added term must lie inside (0, 1), got {share}")
    if term.name in (one.name for one in method.terms):
        raise ValueError(f"{method.name} has a term {term.name!r} already: give the new one another name")
    balance = gradient_ratio(strength) if balance is None else balance
    others = [replace(one, share=one.share * (1 - share)) for one in method.terms]
    added = replace(term, share=share, balance={**term.balance, term.name: balance})
    made = Method(*others, added, name=f"{method.name}_with_{term.name}")
    made.hidden = method.hidden
    return made


def tangent_warm_up(until: float, largest: float) -> Callable[[Term, float], Term] | None:
    """Curriculum for a stopped slope: r dV with r = min(largest, progress / until).

    r < 1 pulls the average velocity towards the velocity. Lu and Song 2024, arXiv 2410.11081; Sabour, Fidler and Kreis
    2025, arXiv 2506.14603.

    Args:
        until: Share of training over which r rises; 0 for r = 1 from the start.
        largest: Value of r at the end.

    Returns:
        The curriculum of a `Term`; None if until = 0.
    """
    if until == 0:
        return None
    return lambda term, progress: term.given(slope=lambda d: stop(d * min(largest, progress / until)))


def clamped(bound: float) -> Callable[[Tensor], Tensor]:
    """Function that clamps values to [-bound, bound]."""
    return partial(torch.clamp, min=-bound, max=bound)


def of_samples(teacher: Any, optimizer: MakeOptimizer | None) -> Auxiliary:
    """Network beside the flow that follows its samples. It starts from the teacher if that is a FlowMap."""
    return Auxiliary(teacher if isinstance(teacher, FlowMap) else None, optimizer)


def one_jump(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sampler of the jump from noise to data: s = 1 and t = 0 in every row."""
    return torch.ones(n, **times_like(like)), torch.zeros(n, **times_like(like))
