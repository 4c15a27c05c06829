"""What guided velocities share: they are teachers like those that they are made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import path as paths
from ..flow_map import GuidanceSpec
from ..path import Path, Time, expand, linear
from ..velocity import constant
from .conditions import FROM, SCALE, TO, Ask, of_average_velocity, of_velocity, spec_of, told_interval, told_scale

JUMPS = (
    "guidance of jumps: this mixture of a flow map's jumps is no jump of the guided velocity, as velocities would have "
    "to be mixed at every time. Follow the velocity (step=steps.euler), or train a flow map of it (docs/guidance.md)"
)


class Guided(nn.Module):
    """A velocity made of the velocities of its members, the first of which is guided by the others.

    It is what they are: velocity(x, t), denoise(x, t), given(**condition), path. `given` binds conditions for all
    members. `average_velocity` and calls mix the members' jumps, or Euler steps where they have none; no jump of the
    guided velocity, of which a warning tells.
    """

    def __init__(
        self,
        members: Sequence[Any],
        scale: float | None,
        interval: Callable[[Tensor], Tensor],
        condition: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.members, self.scale, self.interval = tuple(members), scale, interval
        for k, member in enumerate(self.members):
            if isinstance(member, nn.Module):
                self.add_module(f"member_{k}", member)  # not in a list, whose entries count as blocks of a network
        self.condition = dict(condition)

    def mixed(self, ask: Ask, x: Tensor, *times: Any) -> Tensor:
        """The formula, of `ask(member, x, *times)`."""
        raise NotImplementedError

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> Guided:
        """The same of other members, or under another condition."""
        raise NotImplementedError

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t), in x's shape."""
        return self.mixed(of_velocity, x, t)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """The formula with the members' average velocities in the place of their velocities."""
        if any(hasattr(member, "average_velocity") for member in self.members):
            warnings.warn(JUMPS, stacklevel=2)
        return self.mixed(of_average_velocity, x, s, t)

    def forward(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """x + (t - s) average_velocity(x, s, t)."""
        return x + ((expand(t, x) - expand(s, x)) * self.average_velocity(x, s, t)).to(x.dtype)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """E[x_0 | x_t = x] as the guided velocity has it; on the linear path x - t v(x, t)."""
        return self.path.convert(self.velocity(x, t), x, t, paths.velocity, paths.data)

    def given(self, **condition: Any) -> Guided:
        """The same with a condition bound."""
        return self.around(self.members, {**self.condition, **condition})

    def with_constant_weights(self) -> Guided:
        """The same with all weights as constants: gradients still pass through x and t."""
        return self.around([constant(member) for member in self.members], self.condition)

    @property
    def guidance(self) -> GuidanceSpec:
        """The guidance that a flow map learns from this velocity."""
        return spec_of(self.scale, self.interval, getattr(self, "null", {}), type(self).__name__)

    @property
    def guided(self) -> str:
        """The same in words."""
        return str(self.guidance)

    @property
    def path(self) -> Path:
        return getattr(self.members[0], "path", linear)

    @property
    def like(self) -> Tensor:
        """An empty tensor of the device and dtype for x: those of the first member."""
        return getattr(self.members[0], "like", torch.empty(0))

    @property
    def network(self) -> Any:
        """That of the first member."""
        return getattr(self.members[0], "network", None)

    @property
    def only_source(self) -> float | None:
        return getattr(self.members[0], "only_source", None)

    @property
    def only_target(self) -> float | None:
        return getattr(self.members[0], "only_target", None)

    def for_members(self) -> dict[str, Any]:
        """The conditions without those that are read here."""
        mine = (SCALE, FROM, TO) if self.scale is None else ()
        return {name: value for name, value in self.condition.items() if name not in mine}

    def share(self, x: Tensor, s: Time) -> Tensor:
        """How much of the guidance acts at s, in [0, 1], (B, 1, ..., 1)."""
        s = expand(s, x)
        share = self.interval(s)
        return share * told_interval(self.condition, s, x) if self.scale is None else share

    def scale_at(self, x: Tensor, s: Time) -> Tensor:
        """The scale where all of the guidance acts, 1 where none of it does."""
        scale = told_scale(self.condition, x) if self.scale is None else self.scale
        return 1 + self.share(x, s) * (scale - 1)

    def idle(self, s: Time) -> bool:
        """Whether no guidance acts at a time that is a number, so that the other members need not be asked."""
        return isinstance(s, int | float) and float(self.interval(torch.tensor(float(s)))) == 0
