"""How far a flow map is from the true one, and from its own consistency."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ..consistency import Rule, lagrangian
from ..exact import Exact
from ..flow_map import FlowMap
from ..sample import Condition


@torch.no_grad()
def map_error(flow: FlowMap, exact: Exact, *, n: int = 2048, seed: int = 0) -> dict[str, float]:
    """The root mean square, over samples and coordinates, of F(x, s, t) - F*(x, s, t), with F* the exact flow map on
    the flow's path.

    "map_error": (s, t) uniform on the triangle t < s and x ~ p_s; "map_error_one_jump": s = 1, t = 0. In the data's
    units. NaN stands for what a partial map does not know.
    """
    truth = copy.copy(exact)
    truth.path = flow.path
    generator = torch.Generator().manual_seed(seed)
    x0 = truth.sample(n, generator).to(torch.get_default_dtype())
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    s, t = torch.rand(2, n, generator=generator, dtype=x0.dtype).sort(dim=0, descending=True).values
    partial = flow.only_source is not None or flow.only_target is not None

    def error(x: Tensor, s: Any, t: Any) -> float:
        weight = next(flow.parameters(), x)
        got = flow(*(v.to(weight) if isinstance(v, Tensor) else v for v in (x, s, t))).cpu()
        return float((got.double() - truth.flow_map(x.double(), s, t)).square().mean().sqrt())

    return {
        "map_error": float("nan") if partial else error(flow.path.interpolate(x0, eps, s), s, t),
        "map_error_one_jump": error(flow.path.interpolate(x0, eps, 1.0), 1.0, 0.0),
    }


@torch.no_grad()
def consistency_residuals(
    flow: FlowMap,
    x0: Tensor,
    *,
    rule: Rule = lagrangian,
    grid: int | Tensor = 17,
    condition: Condition = None,
    both: bool = False,
    seed: int = 0,
) -> Tensor:
    """The root mean square of a rule's residual, in units of velocity, over a grid of times: (S, T), entry [i, j] at s
    = grid[i], t = grid[j].

    rule: `lagrangian`, `eulerian`, `compositional` or `diffusion` of `flowmaps.consistency`, with the flow as its own
    teacher, so the result is zero for a flow map that keeps its own promise, whether or not its velocity is right. x_s
    comes from the data x0 (B, ...) and fresh noise, one draw for all times. grid: sorted times, or their number, evenly
    over [0, 1]. Entries with t > s (from data to noise, which few methods train) are NaN unless `both`.
    """
    times = torch.linspace(0, 1, grid) if isinstance(grid, int) else grid
    if condition is not None:
        flow = flow.given(**({"label": condition} if isinstance(condition, Tensor) else condition))
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=x0.dtype).to(x0)
    result = torch.full((len(times), len(times)), float("nan"), dtype=torch.float64)
    for i, s in enumerate(times.to(x0)):
        x = flow.path.interpolate(x0, eps, s)
        for j, t in enumerate(times.to(x0)):
            if both or t <= s:
                s_rows, t_rows = (u.expand(len(x)).reshape(-1, *[1] * (x.ndim - 1)) for u in (s, t))
                result[i, j] = rule(flow, flow, x, s_rows, t_rows).double().square().mean().sqrt()
    return result
