"""How invertible the jumps of a flow map are: their determinants, and the error of jumps there and back."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least
from ..flow_map import like_weights
from ..sampling import Condition, placed
from ..sampling.grid import descending
from ..sampling.states import bound_to_rows, check_noise, conditions_of
from ..steps import jump
from .by_jumps import matrix, refuse_untrained
from .densities import batches, check_states, on_manifold
from .result import path_of


@dataclass(frozen=True)
class Invertibility:
    """How invertible the jumps of a flow map are.

    Attributes:
        smallest_determinant: The smallest determinant of a jump's Jacobian. At 0 or below the jump folds space.
        folded: Share of the rows in which some jump has no positive determinant.
        cycle_error: Root mean square of F(F(x, s, t), t, s) - x over the coordinates of the states before each jump;
            of the tangent vector from x to it on a manifold.
    """

    smallest_determinant: float
    folded: float
    cycle_error: float


@torch.no_grad()
def invertibility(
    flow: Any,
    noise: Tensor,
    steps: int | None = None,
    *,
    condition: Condition = None,
    chunk: int = 16,
    batch_size: int | None = None,
) -> Invertibility:
    """Measure how invertible the jumps from noise to data are, which densities by jumps rely on.

    Args:
        flow: A FlowMap of both directions of time, or an exact distribution.
        noise: Noise (B, ...), such as `fm.noise(flow, n)`.
        steps: Number of equal jumps. None: 1.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.
        chunk: Number of derivatives at a time.
        batch_size: Number of rows at a time. None: chosen by the size of a row.

    Returns:
        The smallest determinant, the share of folded rows and the cycle error.

    Raises:
        TypeError: The noise is no tensor.
        ValueError: The map is partial, or was trained in one direction of time.
    """
    check_noise(noise)
    check_states("noise", flow, noise)
    at_least(1, chunk=chunk)
    times = descending(steps, None)
    for direction in (times, times[::-1]):
        refuse_untrained(flow, direction, jump)
    z = placed(like_weights(flow), on_manifold("noise", flow, noise))
    conditions = conditions_of(flow, condition, len(z))
    determinants, squares, path = [], [], path_of(flow)
    for rows in batches(z, batch_size):
        bound, x = bound_to_rows(flow, conditions, z, rows), z[rows]
        of_rows = []
        for s, t in pairwise(times):
            before = x
            x, slopes = matrix(path, functools.partial(_jumped, bound, s, t), x, chunk)
            of_rows.append(torch.linalg.det(slopes.double()))
            back = path.scale(before, path.between(before, jump(bound, x, t, s)))
            squares.append(back.double().square().mean())
        determinants.append(torch.stack(of_rows, 1))
    found = torch.cat(determinants)
    return Invertibility(
        float(found.min()), float((found <= 0).any(1).double().mean()), float(torch.stack(squares).mean().sqrt())
    )


def _jumped(flow: Any, s: float, t: float, x: Tensor) -> Tensor:
    """A jump as a function of its state."""
    return jump(flow, x, s, t)
