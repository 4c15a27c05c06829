"""Self-E: a map evaluates its own jumps by the direction from no condition to the condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..arguments import finite, shown
from ..consistency import guarded
from ..derivative import stop
from ..draws import normal
from ..guidance.conditions import evaluate_both, require, warn_untrained_null
from ..matching import needs_the_pair
from ..method.method import Method
from ..method.term import Term
from ..times import Times, uniform_triangle, with_diagonal
from ..velocity import conditional
from ..weight import Weight, squared
from .row import SELF, landscape_row

__all__ = ["self_e"]

Normalise = Callable[[Tensor, Tensor], Tensor]
"""(target, x0) -> the target at another norm, of the shape of x0."""


def data_norm(target: Tensor, x0: Tensor) -> Tensor:
    """The target at the norm of its row of data: target |x0| / |target|."""
    data, own = (z.flatten(1).norm(dim=1).reshape(-1, *[1] * (z.ndim - 1)) for z in (x0, target))
    return target * (data / own.clamp(min=torch.finfo(own.dtype).tiny))


@guarded(needs_the_pair)
def self_evaluation(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    null: Mapping[str, Any],
    noise: Tensor,
    scale: float,
    normalise: Normalise,
) -> Tensor:
    """The rule of Self-E: the denoised field is the data, and its own improvement by the classifier's direction.

        G = (x_0 + l G') / (1 + l),   l = sigma_s/alpha_s - sigma_t/alpha_t,   G' = sg[G + w (f(c) - f(null))]

    G = D(x_s, s, t) is the field, `flow.field`: the prediction of x_0 whose exact step is the jump F. f(c) and f(null)
    are the map's own denoisers D(x_t, t, t) at G noised to t, with the rows' condition and without it.

    Args:
        flow: The flow map, with the rows' condition.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        null: Null conditions by name.
        noise: Noise of x_t, of the shape of x.
        scale: Factor w.
        normalise: Function of the target and the data.

    Returns:
        The residual, of x's shape, in units of the data.

    Raises:
        ValueError: The rows lack a condition that has a null value.
    """
    require(flow.condition, null)
    warn_untrained_null(flow, null)
    path, x0, G = flow.path, teacher.pair.x0, flow.field(x, s, t)
    here, there = stop(evaluate_both)(_denoiser, flow, {}, null, path.interpolate(stop(G), noise, t), t)
    data, own = path.alpha(s) * path.alpha(t), path.sigma(s) * path.alpha(t) - path.sigma(t) * path.alpha(s)
    share = own / (data + own).clamp(min=torch.finfo(own.dtype).tiny)  # l/(1 + l), without the pole at s = 1
    target = (1 - share) * x0 + share * (stop(G) + scale * (here - there))
    return G - normalise(target.to(x0.dtype), x0)


def _denoiser(model: Any, x: Tensor, t: Tensor) -> Tensor:
    """The denoiser of a map, its field at equal times."""
    return model.field(x, t, t)


@landscape_row(
    rule="self_evaluation",
    learning=SELF,
    notes="needs labels; no exact matching: a guidance direction stands for the score of the samples; jumps follow no "
    "path, the velocity stays the one of the data",
    cost=5,
    shared=5,
    paper="yu2025self",
    equation="E | D(x_s, s, t) - sg[(x_0 + l (D + w (f(x_t, t; c) - f(x_t, t; null)))) / (1 + l)] |^2,\n"
    "x_t = alpha_t sg[D] + sigma_t n,  l = sigma_s/alpha_s - sigma_t/alpha_t,  the target at the norm of x_0",
    gradient="D(x_s, s, t)",
    output="denoised field",
    null=True,
)
def self_e(
    *,
    null: Mapping[str, Any],
    scale: float = 5.0,
    diagonal: float = 0.5,
    times: Times = uniform_triangle(),
    normalise: Normalise = data_norm,
    weight: Weight = squared,
) -> Method:
    """Self-E, self-evaluation of a conditional map from scratch.

        E || G - sg[(x_0 + l (G + w (f(x_t, t; c) - f(x_t, t; null)))) / (1 + l)] ||^2,   G = D(x_s, s, t),
        x_t = alpha_t sg[G] + sigma_t n,   l = sigma_s/alpha_s - sigma_t/alpha_t

    G is `FlowMap.field`, the prediction of x_0 whose exact step is the jump, and f its diagonal, the denoiser. The
    target is set to the norm of x_0. On the diagonal l = 0, so the velocity is learned as by flow matching.

    It is no exact matching, as its authors say: the score of the samples, which distribution matching would need, is
    replaced by the one without a condition. The true flow map is no fixed point. With labels that tell nothing the
    jumps end at the conditional mean, and with sharp labels they are guided. Rows without a label train f(null), so
    some are needed (`data.transforms.LabelDropout`). Yu et al. 2025, arXiv 2512.22374.

    Args:
        null: Null conditions by name, such as {"label": 10}.
        scale: Factor w of the direction from no condition to the condition.
        diagonal: Share of the rows with t = s.
        times: Sampler of (s, t) for the other rows; by default uniform on the triangle t <= s.
        normalise: Function (target, x0) -> the target at another norm; by default the norm of its row of data.
        weight: Distance and weight of the residual in units of the data; by default the mean square.

    Raises:
        TypeError: `null` is no mapping.
        ValueError: There is no null condition, or a number is not finite.
    """
    finite(scale=scale)
    if not isinstance(null, Mapping):
        raise TypeError(f"null holds the null conditions by name, such as {{'label': 10}}, got {shown(null)}")
    if not null:
        raise ValueError("self_e compares with a null condition, and `null` is empty: give null={'label': classes}")
    term = Term(
        partial(self_evaluation, null=dict(null), scale=scale, normalise=normalise),
        conditional,
        times=with_diagonal(times, diagonal),
        weight=weight,
        draws={"noise": normal},
    )
    return Method(term, name="self_e")
