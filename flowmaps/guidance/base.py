"""Base class of guided velocities, which are teachers like the models that they combine."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import path as paths
from ..arguments import finite, given
from ..flow_map import GuidanceSpec
from ..path import Path, Time, expand_frames, linear
from ..units import Units, units_of
from ..velocity import constant
from .conditions import (
    FROM,
    SCALE,
    TO,
    Evaluate,
    average_velocity_of,
    conditioned_interval,
    conditioned_scale,
    velocity_of,
)
from .intervals import Activity, guidance_spec

JUMPS = (
    "guidance of jumps: a mixture of a flow map's jumps is not a jump of the guided velocity, because velocities have "
    "to be mixed at every time. Follow the velocity (step=steps.euler), or train a flow map on it (docs/guidance.md)"
)


class GuidedVelocity(nn.Module):
    """Velocity that combines the velocities of its members; the first member is guided by the others.

    It has the interface of its members: velocity(x, t), denoise(x, t), given(**condition), path. `given` binds
    conditions for all members. `average_velocity` and calls combine the members' jumps, or Euler steps of members
    without jumps. The result is not a jump of the guided velocity, and a warning says so.

    Args:
        members: Objects with velocity(x, t).
        scale: Guidance scale; 1 is no guidance. None: the condition `guidance` of each row.
        interval: Function from t to the share of the guidance that acts there.
        condition: Conditions by name.
    """

    def __init__(
        self, members: Sequence[Any], scale: float | None, interval: Activity, condition: Mapping[str, Any]
    ) -> None:
        super().__init__()
        finite(**given(scale=scale))
        self.members, self.scale, self.interval = tuple(members), scale, interval
        for k, member in enumerate(self.members):
            if isinstance(member, nn.Module):
                self.add_module(f"member_{k}", member)  # not in a list, whose entries count as blocks of a network
        self.condition = dict(condition)

    def combine(self, evaluate: Evaluate, x: Tensor, *times: Any) -> Tensor:
        """Apply the formula to the answers `evaluate(member, x, *times)`."""
        raise NotImplementedError

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> GuidedVelocity:
        """Make the same guided velocity with other members or conditions."""
        raise NotImplementedError

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Guided velocity v(x, t), of x's shape."""
        return self.combine(velocity_of, x, t)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Apply the formula to the members' average velocities; warns, because no guided jump comes out."""
        if any(hasattr(member, "average_velocity") for member in self.members):
            warnings.warn(JUMPS, stacklevel=2)
        return self.combine(average_velocity_of, x, s, t)

    def forward(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Jump x + (t - s) average_velocity(x, s, t)."""
        return x + ((expand_frames(t, x) - expand_frames(s, x)) * self.average_velocity(x, s, t)).to(x.dtype)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Denoised state of the guided velocity; on the linear path x - t v(x, t)."""
        return self.path.convert(self.velocity(x, t), x, t, paths.velocity, paths.data)

    def given(self, **condition: Any) -> GuidedVelocity:
        """Bind conditions for all members. Returns another guided velocity with the same members."""
        return self.around(self.members, {**self.condition, **condition})

    def with_constant_weights(self) -> GuidedVelocity:
        """Make all weights constants: gradients still pass through x and t."""
        return self.around([constant(member) for member in self.members], self.condition)

    @property
    def guidance(self) -> GuidanceSpec:
        """Guidance that a flow map learns from this velocity."""
        return guidance_spec(self.scale, self.interval, getattr(self, "null", {}), type(self).__name__)

    @property
    def guided(self) -> str:
        """Guidance in words."""
        return str(self.guidance)

    @property
    def units(self) -> Units | None:
        """Units of the data of the first member."""
        return units_of(self.members[0])

    def standardised(self) -> GuidedVelocity:
        """The same guided velocity without units: samplers take and return standardised states."""
        members = [member if units_of(member) is None else member.standardised() for member in self.members]
        return self.around(members, self.condition)

    @property
    def path(self) -> Path:
        """Path of the first member."""
        return getattr(self.members[0], "path", linear)

    @property
    def like(self) -> Tensor:
        """Empty tensor with the device and dtype that the first member takes."""
        return getattr(self.members[0], "like", torch.empty(0))

    @property
    def network(self) -> Any:
        """Network of the first member."""
        return getattr(self.members[0], "network", None)

    @property
    def only_source(self) -> float | None:
        """The one source time of a partial first member."""
        return getattr(self.members[0], "only_source", None)

    @property
    def only_target(self) -> float | None:
        """The one target time of a partial first member."""
        return getattr(self.members[0], "only_target", None)

    @property
    def is_partial(self) -> bool:
        """Whether the first member is a partial map."""
        return self.only_source is not None or self.only_target is not None

    @property
    def has_ode(self) -> bool:
        """Whether the velocities of all members can be followed."""
        return all(getattr(member, "has_ode", True) for member in self.members)

    def member_condition(self) -> dict[str, Any]:
        """Conditions for the members, without the guidance conditions that are read here."""
        mine = (SCALE, FROM, TO) if self.scale is None else ()
        return {name: value for name, value in self.condition.items() if name not in mine}

    def activity(self, x: Tensor, s: Time) -> Tensor:
        """Share of the guidance that acts at s, in [0, 1], (B, 1, ..., 1)."""
        s = expand_frames(s, x)
        share = self.interval(s)
        return share * conditioned_interval(self.condition, s, x) if self.scale is None else share

    def scale_at(self, x: Tensor, s: Time) -> Tensor:
        """Effective scale at s: 1 if no guidance acts there, (B, 1, ..., 1)."""
        scale = conditioned_scale(self.condition, x) if self.scale is None else self.scale
        return 1 + self.activity(x, s) * (scale - 1)

    def is_inactive(self, s: Time) -> bool:
        """Whether no guidance acts at a time given as a number, so that the other members are not evaluated."""
        return isinstance(s, int | float) and float(self.interval(torch.tensor(float(s)))) == 0
