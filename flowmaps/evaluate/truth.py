"""Errors of a flow map against the true one, and against its own consistency."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from .. import consistency, riemannian
from ..arguments import at_least, check_seed, expect_finite, expect_floating, expect_tensor, shown
from ..consistency import Rule, refuse_flat
from ..exact import Exact
from ..flow_map import FlowMap, check_velocity, expect_flow
from ..sampling import Condition, by_name
from ..sampling.in_order import makes_sequences
from ..sequences import with_contexts
from ..velocity import Checked, fixed


@torch.no_grad()
def map_error(flow: FlowMap, exact: Exact, *, n: int = 2048, seed: int = 0) -> dict[str, float]:
    """Root mean square, over samples and coordinates, of F(x, s, t) - F*(x, s, t), in the data's units.

    F* is the exact flow map on the flow's path. On a manifold the difference is the tangent vector log_{F*}(F).

    Args:
        flow: The flow map.
        exact: The distribution, with an exact flow map.
        n: The number of samples.
        seed: Fixes samples and times.

    Returns:
        "map_error": x ~ p_s and (s, t) uniform over the times that the map knows: the triangle t < s, or of a partial
        map the line t = only_target or s = only_source, or the point of both. "map_error_one_jump": s = 1, t = 0; NaN
        for a partial map that does not know this jump.

    Raises:
        TypeError: The flow or the distribution is of another kind.
        ValueError: The number of samples is below 1, or the network has another shape.
    """
    expect_flow(flow)
    if not isinstance(exact, Exact):
        raise TypeError(f"the error is measured against a distribution of flowmaps.exact, got {shown(exact)}")
    at_least(1, n=n)
    check_seed(seed)
    truth = copy.copy(exact)
    truth.path = flow.path
    generator = torch.Generator().manual_seed(seed)
    x0 = truth.sample(n, generator).to(torch.get_default_dtype())
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    s, t = known_times(flow, *torch.rand(2, n, generator=generator, dtype=x0.dtype))

    def error(x: Tensor, s: Any, t: Any) -> float:
        weight = next(flow.parameters(), x)
        got = flow(*(v.to(weight) if isinstance(v, Tensor) else v for v in (x, s, t))).cpu()
        gap = truth.path.between(truth.flow_map(x.double(), s, t), got.double())
        return float(gap.square().mean().sqrt())

    one_jump = flow.knows(1.0, 0.0)
    return {
        "map_error": error(flow.path.interpolate(x0, eps, s), s, t),
        "map_error_one_jump": error(flow.path.interpolate(x0, eps, 1.0), 1.0, 0.0) if one_jump else math.nan,
    }


def known_times(flow: FlowMap, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Turn uniform u and v (N,) in [0, 1] into times t < s, uniform over the times that the map knows."""
    source, target = flow.only_source, flow.only_target
    if source is None and target is None:
        return torch.maximum(u, v), torch.minimum(u, v)
    lowest = 0.0 if target is None else target
    s = lowest + (1 - lowest) * u if source is None else torch.full_like(u, source)
    return s, s * v if target is None else torch.full_like(v, target)


@torch.no_grad()
def consistency_residuals(
    flow: FlowMap,
    x0: Tensor,
    *,
    rule: Rule | None = None,
    teacher: Any = None,
    grid: int | Tensor = 17,
    condition: Condition = None,
    both: bool = False,
    seed: int = 0,
) -> Tensor:
    """Root mean square of a rule's residual, in units of velocity, over a grid of times.

    The flow is its own teacher by default, so the result is zero for a self-consistent map, whether or not its velocity
    is right.

    Args:
        flow: The flow map.
        x0: Data (B, ...), sequences (B, T, C) for a head on a backbone; x_s comes from it and fresh noise, one draw for
            all times.
        rule: `lagrangian`, `eulerian`, `compositional` or `diffusion` of `flowmaps.consistency`, or of
            `flowmaps.riemannian` on a manifold. None: `eulerian` for a map with a fixed target, else `lagrangian`.
        teacher: Another velocity, anything with velocity(x, t). A partial map has no velocity and needs a teacher.
        grid: Sorted times, or their number, evenly over [0, 1].
        condition: The conditions by name, or a tensor of labels.
        both: Whether to fill the entries with t > s (from data to noise) too, which few methods train.
        seed: Fixes the noise.

    Returns:
        The residuals (S, T), entry [i, j] at s = grid[i], t = grid[j]; NaN for times that are left out or not known.

    Raises:
        TypeError: The flow, the data, the rule or the teacher is of another kind.
        ValueError: A partial map has no teacher, the grid holds no times in [0, 1], the data are not finite, or the
            path is on a manifold and the rule is one of flat space.
    """
    expect_flow(flow)
    expect_floating("x0", x0, least=2)
    expect_finite("x0", x0)
    check_seed(seed)
    if rule is not None and not callable(rule):
        raise TypeError(f"a rule is a function of flowmaps.consistency, got {shown(rule)}")
    times = _grid(grid)
    if teacher is not None:
        teacher = Checked(fixed(teacher).teacher)
    if teacher is None:
        check_velocity(
            flow,
            "without a teacher a map is compared with its own velocity",
            "give teacher=, anything with velocity(x, t), such as the model that it was distilled from",
        )
    rules: Any = riemannian if flow.path.curved else consistency
    rule = rule or (rules.lagrangian if flow.only_target is None else rules.eulerian)
    refuse_flat(rule, flow.path)
    if condition is not None:
        known = by_name(condition)
        flow = flow.given(**known)
        if teacher is not None and hasattr(teacher.teacher, "given"):
            teacher = Checked(teacher.teacher.given(**known))
    if makes_sequences(flow):
        flow, x0 = with_contexts(flow, x0)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=x0.dtype).to(x0)
    result = torch.full((len(times), len(times)), float("nan"), dtype=torch.float64)
    for i, s in enumerate(times.to(x0)):
        x = flow.path.interpolate(x0, eps, s)
        for j, t in enumerate(times.to(x0)):
            if (both or t <= s) and flow.knows(float(s), float(t)):
                s_rows, t_rows = (u.expand(len(x)).reshape(-1, *[1] * (x.ndim - 1)) for u in (s, t))
                residual = rule(flow, flow if teacher is None else teacher, x, s_rows, t_rows)
                result[i, j] = residual.double().square().mean().sqrt()
    return result


def _grid(grid: Any) -> Tensor:
    """Times of a grid, or so many of them."""
    if not isinstance(grid, Tensor):
        at_least(1, grid=grid)
        return torch.linspace(0, 1, grid)
    expect_tensor("grid", grid)
    if grid.ndim != 1 or not len(grid) or not bool(((grid >= 0) & (grid <= 1)).all()):
        raise ValueError(f"a grid holds times in [0, 1], got {shown(grid)}")
    return grid
