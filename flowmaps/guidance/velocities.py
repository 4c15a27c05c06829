"""Velocities made of velocities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..flow_map import GuidanceSpec
from ..path import Path
from ..serialise import describable
from .base import Guided
from .conditions import Ask, Interval, as_interval, bound, extrapolated, needs, told_scale, twice

BAKED = (
    "this flow map has guidance baked in already ({}): more of it, while it is sampled or as a teacher, adds up to a "
    "scale that nobody asked for"
)


@describable
class ClassifierFree(Guided):
    """See `classifier_free`."""

    def __init__(
        self,
        members: Sequence[Any],
        scale: float | None,
        interval: Callable[[Tensor], Tensor],
        null: Mapping[str, Any],
        condition: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(members, scale, interval, condition)
        self.null = dict(null)

    def mixed(self, ask: Ask, x: Tensor, *times: Any) -> Tensor:
        [teacher], told = self.members, self.for_members()
        needs({**(getattr(teacher, "condition", None) or {}), **told}, self.null)
        if self.scale == 1 or self.idle(times[0]):
            return ask(bound(teacher, told), x, *times)
        v, other = twice(ask, teacher, told, {**told, **self.null}, x, *times)
        return extrapolated(v, other, self.scale_at(x, times[0]))

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> Guided:
        return ClassifierFree(members, self.scale, self.interval, self.null, condition)


@describable
class Autoguidance(Guided):
    """See `autoguidance`."""

    def mixed(self, ask: Ask, x: Tensor, *times: Any) -> Tensor:
        teacher, weak = (bound(member, self.for_members()) for member in self.members)
        v = ask(teacher, x, *times)
        if self.scale == 1 or self.idle(times[0]):
            return v
        return extrapolated(v, ask(weak, x, *times), self.scale_at(x, times[0]))

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> Guided:
        return Autoguidance(members, self.scale, self.interval, condition)


@describable
class ModelGuidance(ClassifierFree):
    """See `model_guidance`."""

    def mixed(self, ask: Ask, x: Tensor, *times: Any) -> Tensor:
        (teacher, model), told = self.members, self.for_members()
        needs({**(getattr(model, "condition", None) or {}), **told}, self.null)
        v = ask(bound(teacher, told), x, *times)
        if self.idle(times[0]):
            return v
        there, other = twice(ask, model, told, {**told, **self.null}, x, *times)
        weight = self.share(x, times[0]) * (told_scale(self.condition, x) if self.scale is None else self.scale)
        return v + (weight * (there - other)).to(v.dtype)

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> Guided:
        return ModelGuidance(members, self.scale, self.interval, self.null, condition)


@describable
class Mixture(Guided):
    """See `mixture`."""

    def __init__(self, members: Sequence[Any], weights: Sequence[float], condition: Mapping[str, Any] = {}) -> None:
        super().__init__(members, 1.0, as_interval((0.0, 1.0)), condition)
        self.weights = tuple(weights)

    @property
    def guidance(self) -> GuidanceSpec:
        """No single scale: the weights are in the name."""
        return GuidanceSpec(None, kind=f"Mixture of weights {', '.join(f'{weight:g}' for weight in self.weights)}")

    def mixed(self, ask: Ask, x: Tensor, *times: Any) -> Tensor:
        answers = (ask(bound(member, self.condition), x, *times) for member in self.members)
        first, *others = (weight * answer for weight, answer in zip(self.weights, answers, strict=True))
        return sum(others, first)

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> Guided:
        return Mixture(members, self.weights, condition)


def classifier_free(
    teacher: Any, scale: float | None = None, *, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)
) -> ClassifierFree:
    """v(x, t | null) + scale [v(x, t | c) - v(x, t | null)] for t in `interval`, v(x, t | c) elsewhere, from one call
    of 2 B rows.

    null: the conditions that replace c's, by name: the null class ({"label": 10}), the empty prompt, or a negative one;
    one row, B rows or a number each. All other conditions are the same in both. scale: 1 is no guidance; None: each
    row's own, from the condition `guidance`, and its interval from `guidance_from` and `guidance_to` where they are
    given, none of which the teacher then sees. interval: from and to, or a function of t, the share of (scale - 1)
    that acts there. At a time outside that is a number, the teacher is asked once.
    Raises TypeError for a teacher without velocity(x, t) or given(**condition), ValueError for conditions that are
    missing or do not fit. Ho and Salimans 2022, arXiv 2207.12598; in an interval, Kynkaanniemi et al. 2024, arXiv
    2404.07724.
    """
    return ClassifierFree(_checked(teacher), scale, as_interval(interval), null)


def autoguidance(
    teacher: Any, weak: Any, scale: float | None = None, *, interval: Interval = (0.0, 1.0)
) -> Autoguidance:
    """v_weak(x, t) + scale [v(x, t) - v_weak(x, t)] for t in `interval`, v(x, t) elsewhere.

    weak: a worse model of the same data and conditions, smaller or less trained. Arguments and errors otherwise as for
    `classifier_free`. Karras et al. 2024, arXiv 2406.02507.
    """
    return Autoguidance(_checked(teacher, weak), scale, as_interval(interval), {})


def model_guidance(
    teacher: Any, model: Any, weight: float | None = None, *, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)
) -> ModelGuidance:
    """v(x, t) + weight [m(x, t | c) - m(x, t | null)] for t in `interval`, v(x, t) elsewhere: a teacher guided by what
    another model says of the condition.

    Where the model is the teacher itself this is `classifier_free` of scale 1 + weight. With the velocity of sampled
    pairs for v and the network in training for m it is a target: see `guidance.dmf`. weight: None reads the condition
    `guidance`. Other arguments and errors as for `classifier_free`. Tang et al. 2025, arXiv 2502.12154.
    """
    return ModelGuidance(_checked(teacher, model), weight, as_interval(interval), null)


def mixture(weights: Mapping[Any, float]) -> Mixture:
    """sum_i w_i v_i(x, t), of {v_i: w_i}.

    Weights sum to 1 (ValueError), or the mixture would be the velocity of nothing. Members may have conditions bound:
    {flow.given(label=a): 1.5, flow.given(label=b): 1.5, flow.given(label=null): -2.0} guides to both a and b.
    """
    if abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"the weights of a mixture of velocities sum to 1, got {list(weights.values())}")
    return Mixture(_checked(*weights), list(weights.values()))


def _checked(*teachers: Any) -> tuple[Any, ...]:
    for teacher in teachers:
        if not callable(getattr(teacher, "velocity", None)):
            raise TypeError(f"guidance needs velocities, objects with velocity(x, t), and got {teacher!r}")
        if isinstance(baked := getattr(teacher, "guidance", None), GuidanceSpec) and not isinstance(teacher, Guided):
            warnings.warn(BAKED.format(baked), stacklevel=3)
    known = [path for teacher in teachers if isinstance(path := getattr(teacher, "path", None), Path)]
    if any(path != known[0] for path in known):
        raise ValueError(f"velocities on different paths cannot be mixed: {', '.join(map(str, known))}")
    return teachers
