"""What several methods share."""

from __future__ import annotations

from collections.abc import Callable

from ..derivative import stop
from ..method.term import Term


def tangent_warm_up(until: float, largest: float) -> Callable[[Term, float], Term] | None:
    """A curriculum for a stopped slope: r dV with r = min(largest, progress / until); None for until = 0, where r is 1
    from the start.

    r < 1 pulls the average velocity towards the velocity. (Lu and Song 2024, arXiv 2410.11081; arXiv 2506.14603.)
    """
    if until == 0:
        return None
    return lambda term, progress: term.given(slope=lambda d: stop(d * min(largest, progress / until)))
