"""pi-Flow: one call of the network predicts a policy, whose ODE is followed in many substeps without the network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least
from ..consistency import guarded
from ..derivative import stop
from ..method.method import Method
from ..method.term import Term, from_data, from_noise
from ..outputs import policy_of
from ..path import expand
from ..times import grids
from ..velocity import fixed, is_conditional
from ..weight import Weight, squared
from .row import POLICY, TEACHER, landscape_row

__all__ = ["pi_flow"]


def _needs_a_marginal_velocity(velocity: Any, options: Mapping[str, Any]) -> str | None:
    """Guard of `imitation`: the reason why a conditional velocity is wrong there, else None."""
    if is_conditional(velocity):
        return (
            "a policy imitates a velocity at states that it has reached itself, where the conditional velocity of a "
            "pair has no meaning: use fixed(teacher)"
        )
    return None


@guarded(_needs_a_marginal_velocity)
def imitation(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, u: Tensor, substeps: int) -> Tensor:
    """The rule of pi-Flow: the policy has the teacher's velocity at states that it reaches itself.

        v_pi(x_r, r) = sg[v(x_r, r)],   x_r on the ODE of sg[v_pi] from x_s,   one time r in each of m equal parts

    Args:
        flow: A flow map with the output `MixturePolicy`.
        teacher: The teacher's velocity v.
        x: States x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        u: Places of the times r in their parts, in [0, 1], (B, m).
        substeps: Substeps from one time r to the next.

    Returns:
        The residuals at the m times, (B, m, ...).

    Raises:
        ValueError: The flow map predicts no policy, or the velocity is conditional.
    """
    policy = policy_of(flow, x, s, t)
    points, residuals, here, now = u.shape[1], [], x, s
    for j in range(points):
        r = s + (t - s) * (j + expand(u[:, j], x)) / points
        here = (here + (r - now) * stop(policy.average_velocity)(here, now, r, substeps)).to(x.dtype)
        residuals.append(policy.velocity(here, r) - stop(teacher.velocity)(here, r))
        now = r
    return torch.stack(residuals, 1)


@landscape_row(
    rule="imitation",
    learning=TEACHER,
    notes="keeps the teacher's path, within the policy; the network predicts a mixture; no inversion, no likelihood",
    cost=5,
    shared=5,
    paper="chen2025piflow",
    equation="E | v_pi(x_r, r) - sg[v(x_r, r)] |^2,\nx_r on the ODE of sg[v_pi] from x_s,  v_pi predicted at (x_s, s)",
    gradient="v_pi at x_r",
    output=POLICY,
    data_free=True,
)
def pi_flow(
    teacher: Any = None, *, steps: int = 1, points: int = 2, substeps: int = 8, weight: Weight = squared
) -> Method:
    """pi-Flow, policy-based imitation distillation.

        E || v_pi(x_r, r) - sg[v(x_r, r)] ||^2,   x_r on the ODE of sg[v_pi] from x_s

    One call of the network at (x_s, s) predicts a policy v_pi, and the jump F follows its ODE: the flow map has the
    output `outputs.MixturePolicy`. The loss is zero if the policy is the teacher's velocity along its own ODE. With
    `steps=1` it learns from noise alone, without data. Chen et al. 2025, arXiv 2510.14974.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        steps: Number of jumps for sampling; the jumps of training are those between i/steps and (i - 1)/steps.
        points: Number m of times of the loss in a jump. The cost is 3 and one call of the teacher for each.
        substeps: Substeps of the rollout in training, over all points. The jumps of the flow map have those of its
            output; here fewer are enough, for the teacher is asked wherever the rollout leads.
        weight: Distance and weight of the residuals; by default the mean square.
    """
    at_least(1, steps=steps, points=points, substeps=substeps)
    term = Term(
        partial(imitation, substeps=-(-substeps // points)),
        fixed(teacher),
        times=grids.neighbours(grids.uniform_grid(steps)),
        weight=weight,
        draws={"u": partial(_places, points=points)},
        start=from_noise if steps == 1 else from_data,
    )
    return Method(term, name="pi_flow")


def _places(n: int, like: Tensor, *, points: int) -> Tensor:
    """Uniform numbers in [0, 1], (n, points), in the dtype of `like` or float32 at least."""
    return torch.rand(n, points, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
