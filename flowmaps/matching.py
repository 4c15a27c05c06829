"""Rules that match distributions instead of paths: they couple the rows of a block (`Term(group=...)`).

- drift: samples move along a field, towards data and away from one another (drifting models)
- moments: jumps from two sources have one distribution at their target, by a kernel (inductive moment matching)
- featured: features of samples, whose moments are compared by a weight (`velocity.FrechetDistance`)

They need the data of the sampled pair, so their velocity source is `conditional`. `with_value` shows an informative
number in place of a loss that is constant or biased.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import positive, shown
from .consistency import guarded
from .derivative import stop
from .networks.layers import full_precision
from .perceptual import extractor
from .velocity import Conditional, Pair, conditional, is_conditional

Features = Callable[[Tensor], Tensor]
"""Rows (B, ...) -> features (B, ...)."""


def needs_the_pair(velocity: Any, options: Mapping[str, Any]) -> str | None:
    """Guard of rules that compare samples with data: the reason why another velocity is wrong there, else None."""
    if velocity is conditional or isinstance(velocity, Conditional):
        return None
    return (
        "this rule compares samples with the data of the sampled pair and asks for no velocity, so that a teacher or "
        "guidance would have no effect: use conditional, without guidance"
    )


def _needs_the_pair_or_no_data(velocity: Any, options: Mapping[str, Any]) -> str | None:
    return needs_the_pair(velocity, options) if is_conditional(velocity) else None


HIDDEN = 1e15
"""The distance of a pair that is left out, whose square is finite."""


def with_value(value: Tensor, loss: Tensor) -> Tensor:
    """A loss with the gradient of `loss` and the value of `value`, both (B,)."""
    return stop(value) + loss - stop(loss)


def features_of(features: Features | nn.Module | None) -> Features:
    """A function of rows: the rows themselves for None, a network with constant weights, or the function given."""
    if features is None:
        return lambda x: x
    if not callable(features):
        raise TypeError(f"features are a network or a function of rows (B, ...), got {shown(features)}")
    return extractor(features) if isinstance(features, nn.Module) else features


def laplace(to_data: Tensor, to_samples: Tensor, data: Tensor, samples: Tensor, *, tau: float) -> Tensor:
    """Drifting field of the Laplace kernel at points x.

        sum A+ (sum A-) y - sum A- (sum A+) x',   A = sqrt(softmax over (y, x') * softmax over x) of -distance/tau

    Antisymmetric in data and samples, so that it vanishes for equal sets. Deng et al. 2026, arXiv 2602.04770.

    Args:
        to_data: Distances of points x and data, (..., N, P); `HIDDEN` for a pair that is left out.
        to_samples: Distances of points x and samples, (..., N, Q); `HIDDEN` for a point and itself.
        data: Data y, (..., P, D).
        samples: Samples x', (..., Q, D).
        tau: Temperature, a distance.

    Returns:
        The field at x, (..., N, D).
    """
    logits = torch.cat([to_data, to_samples], -1) / -tau
    towards, away = (logits.softmax(-1) * logits.softmax(-2)).sqrt().split([data.shape[-2], samples.shape[-2]], -1)
    return (towards * away.sum(-1, keepdim=True)) @ data - (away * towards.sum(-1, keepdim=True)) @ samples


def gaussian(to_data: Tensor, to_samples: Tensor, data: Tensor, samples: Tensor, *, tau: float) -> Tensor:
    """Drifting field of the Gaussian kernel: the difference of the means of data and of samples near x.

    It is tau^2 (grad log p - grad log q), with p and q the distributions of data and samples smoothed by tau. Arguments
    and result as for `laplace`; a point without any sample to compare with stays where it is.
    """
    near_data, near = ((to**2 / (-2 * tau**2)).softmax(-1) for to in (to_data, to_samples))
    return (near_data @ data - near @ samples) * (to_samples < HIDDEN).any(-1, keepdim=True)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances of all rows, (..., N, D) and (..., P, D) -> (..., N, P), with slope zero at zero."""
    # the matrix-product form of cdist loses the small distances, which are the ones that count here
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


@guarded(needs_the_pair)
def drift(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    kernel: Callable[..., Tensor],
    temperatures: Sequence[float],
    features: Features,
) -> Tensor:
    """The rule of drifting models: a sample is moved to where the field of its block leads.

        | phi(F) - sg[phi(F) + W] |^2,   W the field at phi(F), or the sum of the fields of several temperatures,
        each over its root mean square

    Distances are in units of the mean distance of samples and data of a block. Samples see the data and the samples of
    their own condition alone. The value is |W|^2 of the raw fields, because the loss of normalised fields is constant.

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: Noise, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        kernel: `laplace` or `gaussian`.
        temperatures: Temperatures of the kernel.
        features: Function phi, rows -> features.

    Returns:
        The loss of each row, (B, 1).

    Raises:
        ValueError: A condition is not made of whole numbers, so that no two rows share it.
    """
    pair = blocked(teacher)
    y = features(flow(x, s, t)).flatten(1)
    wide = torch.promote_types(y.dtype, torch.float32)
    here, data = (pair.rows.blocks(z.to(wide)) for z in (stop(y), stop(features)(pair.x0).flatten(1)))
    hidden, itself = different(pair), torch.eye(here.shape[1], dtype=torch.bool, device=y.device)
    with full_precision(y.device), torch.no_grad():
        to_data, to_samples = distances(here, data), distances(here, here)
        unit = to_data.mean((1, 2), keepdim=True).clamp(min=torch.finfo(wide).tiny)
        ends = (to_data / unit).masked_fill(hidden, HIDDEN), (to_samples / unit).masked_fill(hidden | itself, HIDDEN)
        fields = torch.stack([kernel(*ends, data, here, tau=tau) for tau in temperatures])
        sizes = fields.square().mean((2, 3), keepdim=True).sqrt().clamp(min=torch.finfo(wide).tiny)
        used = unit * fields / sizes if len(temperatures) > 1 else fields
        raw, used = (pair.rows.joined(field.sum(0)) for field in (fields, used))
    return with_value(raw.square().mean(1), (y - stop(y + used)).square().mean(1))[:, None]


def blocked(teacher: Any) -> Pair:
    """The sampled pair of a rule that couples rows. Raises ValueError if its rows are not in blocks."""
    if teacher.pair.rows.group < 2:
        raise ValueError("this rule compares the rows of a block, so its term needs a group: Term(..., group=M), M > 1")
    return teacher.pair


def different(pair: Pair) -> Tensor:
    """Which rows of a block have different conditions, (blocks, M, M).

    Args:
        pair: The pair, with its condition and its rows in blocks.

    Raises:
        ValueError: A condition of the rows is not made of whole numbers.
    """
    size = pair.rows.group
    found = torch.zeros(len(pair.x0) // size, size, size, dtype=torch.bool, device=pair.x0.device)
    for name, value in pair.condition.items():
        if not isinstance(value, Tensor) or not value.ndim:
            continue
        if value.is_floating_point():
            raise ValueError(
                f"samples are compared with data of the same condition, and {name!r} is not made of whole numbers, so "
                "that no two rows share it: take labels, or a method of paths"
            )
        blocks = pair.rows.blocks(value.flatten(1) if value.ndim > 1 else value[:, None])
        found = found | (blocks[:, :, None] != blocks[:, None]).any(-1)
    return found


@guarded(needs_the_pair)
def moments(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    earlier: Callable[[Tensor, Tensor], Tensor],
    scale: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """The rule of inductive moment matching: jumps to t from s and from an earlier r have one distribution.

        mean over a block of  k(a, a') - 2 k(a, b') + k(b, b'),   k(a, b) = exp(-|a - b| / (D |c|)),
        a = F(x_s, s, t),   b = sg F(x_r, r, t),   x_r on the same pair

    Its gradient is the V-statistic's, which counts pairs of a row with itself. The value is the U-statistic without
    them, whose mean is zero for the true map, while the V-statistic has an offset that falls with the rows of a block.

    Args:
        flow: The flow map.
        teacher: The sampled pair.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...), one for a block.
        t: Target times, (B, 1, ...), one for a block.
        earlier: Function (s, t) -> r between them.
        scale: Function (s, t) -> the length c of the kernel.

    Returns:
        The loss of each row, (B, 1).
    """
    rows, r = blocked(teacher).rows, earlier(s, t)
    a, b = flow(x, s, t), stop(flow)(teacher(x, s, r), r, t)
    with full_precision(x.device):
        a, b = (rows.blocks(z.flatten(1).to(s.dtype)) for z in (a, b))
        length = rows.blocks(scale(s, t).abs().reshape(-1))[:, :1, None].clamp(min=1e-6) * a.shape[-1]
        aa, ab, bb = ((-distances(u, v) / length).exp() for u, v in ((a, a), (a, b), (b, b)))
        both = aa - 2 * ab + bb
        others = both.sum(-1) - both.diagonal(dim1=-2, dim2=-1)
        return rows.joined(with_value(others / (rows.group - 1), both.mean(-1)))[:, None]


@guarded(_needs_the_pair_or_no_data)
def featured(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, features: Features) -> Tensor:
    """Features of samples F(x_s, s, t), with the features of the pair's data beside them if the teacher has a pair.

    Args:
        flow: The flow map.
        teacher: The sampled pair, or anything else for samples alone.
        x: States, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        features: Function, rows -> features.

    Returns:
        Features (B, 2, D) of samples and data, or (B, 1, D).
    """
    samples = features(flow(x, s, t)).flatten(1)
    if not is_conditional(teacher):
        return samples[:, None]
    return torch.stack([samples, stop(features)(teacher.pair.x0).flatten(1)], 1)


def expect_temperatures(temperature: float | Sequence[float]) -> tuple[float, ...]:
    """One or several temperatures as a tuple. Raises ValueError unless there is one, and all are positive."""
    found = (temperature,) if isinstance(temperature, int | float) else tuple(temperature)
    if not found:
        raise ValueError("drifting needs at least one temperature")
    for one in found:
        positive(temperature=one)
    return found
