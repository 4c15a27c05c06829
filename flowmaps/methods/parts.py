"""Parts of several methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..consistency import diffusion
from ..derivative import stop
from ..method.term import Term
from ..times.samplers import Times, times_like


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


def one_jump(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sampler of the jump from noise to data: s = 1 and t = 0 in every row."""
    return torch.ones(n, **times_like(like)), torch.zeros(n, **times_like(like))
