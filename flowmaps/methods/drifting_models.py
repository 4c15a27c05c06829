"""Drifting models: samples move to where the data attract them and other samples repel them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from ..arguments import at_least, given
from ..draws import WHOLE
from ..matching import Features, drift, expect_temperatures, features_of, laplace
from ..method.method import Method
from ..method.term import Term, from_noise
from ..velocity import conditional
from ..weight import plain
from .parts import one_jump
from .row import SAMPLES, landscape_row

__all__ = ["drifting"]


@landscape_row(
    rule="distribution",
    learning=SAMPLES,
    notes="one jump from noise; no path, so no inversion and no likelihood",
    cost=3,
    shared=3,
    paper="deng2026generative",
    equation="E | F(eps, 1, 0) - sg[F(eps, 1, 0) + W(F(eps, 1, 0))] |^2,\n"
    "W(x) = sum A_p (sum A_q) y - sum A_q (sum A_p) x',  y data, x' samples",
    gradient="F(eps, 1, 0)",
    only_source=1.0,
    only_target=0.0,
)
def drifting(
    *,
    temperature: float | Sequence[float] = (0.02, 0.05, 0.2),
    group: int | None = None,
    kernel: Callable[..., Tensor] = laplace,
    features: Features | nn.Module | None = None,
) -> Method:
    """Drifting models.

        E || phi(x) - sg[phi(x) + W(phi(x))] ||^2,   x = F(eps, 1, 0)

    The field W attracts samples to data and repels them from one another, by a kernel: `matching.laplace` or
    `matching.gaussian`. The fields of several temperatures are normalised and added; then the loss is constant, and its
    value is the mean square of the raw fields instead. Samples are compared with data of the same class alone, so a
    block needs several rows of each class. Deng et al. 2026, arXiv 2602.04770.

    Args:
        temperature: Temperature of the kernel, or several, in units of the mean distance of samples and data.
        group: Rows of a block, in which samples and data are compared. None: the whole batch, on one process.
        kernel: The field of a kernel.
        features: Function or network phi that maps rows to features, in which they are compared; a network is copied,
            with constant weights. None: the rows themselves.

    Raises:
        ValueError: A temperature is not positive, or a block has fewer than two rows.
    """
    at_least(2, **given(group=group))
    rule = partial(drift, kernel=kernel, temperatures=expect_temperatures(temperature), features=features_of(features))
    term = Term(
        rule,
        conditional,
        times=one_jump,
        weight=plain,
        start=from_noise,
        group=WHOLE if group is None else group,
        name="distribution",
    )
    return Method(term, name="drifting")
