"""Guided velocities of given models: classifier-free guidance, autoguidance, model guidance and mixtures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..arguments import finite, shown
from ..flow_map import GuidanceSpec
from ..path import Path
from ..serialise import describable
from .base import GuidedVelocity
from .conditions import Evaluate, bind, conditioned_scale, evaluate_both, extrapolate, require, warn_untrained_null
from .intervals import Activity, Interval, as_interval

BAKED = (
    "this flow map has guidance baked in already ({}): guiding it again, in sampling or as a teacher, compounds the "
    "scales. Guide a flow map that has learned no guidance"
)


@describable
class ClassifierFree(GuidedVelocity):
    """Classifier-free guidance. See `classifier_free`."""

    def __init__(
        self,
        members: Sequence[Any],
        scale: float | None,
        interval: Activity,
        null: Mapping[str, Any],
        condition: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(members, scale, interval, condition)
        if not isinstance(null, Mapping) or not null:
            raise TypeError(f"null holds the null conditions by name, such as {{'label': 10}}, got {shown(null)}")
        self.null = dict(null)

    def combine(self, evaluate: Evaluate, x: Tensor, *times: Any) -> Tensor:
        """Extrapolate from the null condition."""
        [teacher], condition = self.members, self.member_condition()
        require({**(getattr(teacher, "condition", None) or {}), **condition}, self.null)
        if self.scale == 1 or self.is_inactive(times[0]):
            return evaluate(bind(teacher, condition), x, *times)
        warn_untrained_null(teacher, self.null)
        v, other = evaluate_both(evaluate, teacher, condition, {**condition, **self.null}, x, *times)
        return extrapolate(v, other, self.scale_at(x, times[0]))

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> GuidedVelocity:
        """Make the same guided velocity with other members or conditions."""
        return ClassifierFree(members, self.scale, self.interval, self.null, condition)


@describable
class Autoguidance(GuidedVelocity):
    """Guidance by a worse model. See `autoguidance`."""

    def combine(self, evaluate: Evaluate, x: Tensor, *times: Any) -> Tensor:
        """Extrapolate from the weak model."""
        teacher, weak = (bind(member, self.member_condition()) for member in self.members)
        v = evaluate(teacher, x, *times)
        if self.scale == 1 or self.is_inactive(times[0]):
            return v
        return extrapolate(v, evaluate(weak, x, *times), self.scale_at(x, times[0]))

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> GuidedVelocity:
        """Make the same guided velocity with other members or conditions."""
        return Autoguidance(members, self.scale, self.interval, condition)


@describable
class ModelGuidance(ClassifierFree):
    """Guidance by the conditional and unconditional velocities of another model. See `model_guidance`."""

    def combine(self, evaluate: Evaluate, x: Tensor, *times: Any) -> Tensor:
        """Add the weighted difference of the other model's two velocities."""
        (teacher, model), condition = self.members, self.member_condition()
        require({**(getattr(model, "condition", None) or {}), **condition}, self.null)
        v = evaluate(bind(teacher, condition), x, *times)
        if self.is_inactive(times[0]):
            return v
        warn_untrained_null(model, self.null)
        there, other = evaluate_both(evaluate, model, condition, {**condition, **self.null}, x, *times)
        scale = conditioned_scale(self.condition, x) if self.scale is None else self.scale
        return v + (self.activity(x, times[0]) * scale * (there - other)).to(v.dtype)

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> GuidedVelocity:
        """Make the same guided velocity with other members or conditions."""
        return ModelGuidance(members, self.scale, self.interval, self.null, condition)


@describable
class Mixture(GuidedVelocity):
    """Weighted sum of velocities. See `mixture`."""

    def __init__(self, members: Sequence[Any], weights: Sequence[float], condition: Mapping[str, Any] = {}) -> None:
        super().__init__(members, 1.0, as_interval((0.0, 1.0)), condition)
        self.weights = tuple(weights)

    @property
    def guidance(self) -> GuidanceSpec:
        """Guidance without a single scale, with the weights in its name."""
        return GuidanceSpec(None, kind=f"Mixture of weights {', '.join(f'{weight:g}' for weight in self.weights)}")

    def combine(self, evaluate: Evaluate, x: Tensor, *times: Any) -> Tensor:
        """Sum the weighted answers."""
        answers = (evaluate(bind(member, self.condition), x, *times) for member in self.members)
        first, *others = (weight * answer for weight, answer in zip(self.weights, answers, strict=True))
        return sum(others, first)

    def around(self, members: Sequence[Any], condition: Mapping[str, Any]) -> GuidedVelocity:
        """Make the same mixture with other members or conditions."""
        return Mixture(members, self.weights, condition)


def classifier_free(
    teacher: Any, scale: float | None = None, *, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)
) -> ClassifierFree:
    """Guide a velocity by classifier-free guidance: v(x, t | null) + scale [v(x, t | c) - v(x, t | null)].

    Outside `interval` the velocity is v(x, t | c). Both velocities come from one call of 2 B rows. If t is a number
    outside the interval, the teacher is evaluated once.

    Args:
        teacher: An object with velocity(x, t) and given(**condition).
        scale: Guidance scale; 1 is no guidance. None: each row's scale is the condition `guidance`, and its interval
            is given by the conditions `guidance_from` and `guidance_to`, if present. The teacher does not see these.
        null: Null conditions by name, which replace those in c: the null class ({"label": 10}), the empty prompt or a
            negative prompt. One row, B rows or a number each. All other conditions are the same in both velocities.
        interval: First and last time at which guidance acts, or a function from t to the share of (scale - 1) that
            acts there.

    Returns:
        The guided velocity, a teacher.

    Raises:
        TypeError: The teacher has no velocity(x, t); or, when called, it has no given(**condition).
        ValueError: `interval` is no interval of [0, 1]; or, when called, a condition is missing or has another shape
            than its null condition.

    Ho and Salimans 2022, arXiv 2207.12598; in an interval, Kynkaanniemi et al. 2024, arXiv 2404.07724.
    """
    return ClassifierFree(_checked(teacher), scale, as_interval(interval), null)


def autoguidance(
    teacher: Any, weak: Any, scale: float | None = None, *, interval: Interval = (0.0, 1.0)
) -> Autoguidance:
    """Guide a velocity by a worse model: v_weak(x, t) + scale [v(x, t) - v_weak(x, t)].

    Args:
        teacher: An object with velocity(x, t).
        weak: A worse model of the same data and conditions, smaller or less trained.
        scale: Guidance scale, as for `classifier_free`.
        interval: Times at which guidance acts, as for `classifier_free`. Elsewhere the velocity is v(x, t).

    Returns:
        The guided velocity, a teacher.

    Raises:
        TypeError: A model has no velocity(x, t).
        ValueError: The models are on different paths, or `interval` is no interval of [0, 1].

    Karras et al. 2024, arXiv 2406.02507.
    """
    return Autoguidance(_checked(teacher, weak), scale, as_interval(interval), {})


def model_guidance(
    teacher: Any, model: Any, weight: float | None = None, *, null: Mapping[str, Any], interval: Interval = (0.0, 1.0)
) -> ModelGuidance:
    """Guide a velocity by another model m of the condition: v(x, t) + weight [m(x, t | c) - m(x, t | null)].

    If the model is the teacher itself, this is `classifier_free` of scale 1 + weight. With the conditional velocity of
    sampled pairs for v and the network in training for m it is a training target: see `guidance.dmf`.

    Args:
        teacher: An object with velocity(x, t).
        model: An object with velocity(x, t) and given(**condition).
        weight: Weight of the difference; 0 is no guidance. None: the condition `guidance` of each row.
        null: Null conditions by name, as for `classifier_free`.
        interval: Times at which guidance acts, as for `classifier_free`. Elsewhere the velocity is v(x, t).

    Returns:
        The guided velocity, a teacher.

    Raises:
        TypeError: A model has no velocity(x, t); or, when called, `model` has no given(**condition).
        ValueError: The models are on different paths, `interval` is no interval of [0, 1]; or, when called, a condition
            is missing or has another shape than its null condition.

    Tang et al. 2025, arXiv 2502.12154.
    """
    return ModelGuidance(_checked(teacher, model), weight, as_interval(interval), null)


def mixture(weights: Mapping[Any, float]) -> Mixture:
    """Mix velocities linearly: sum_i w_i v_i(x, t).

    Args:
        weights: {v_i: w_i}. Members may have conditions bound: {flow.given(label=a): 1.5, flow.given(label=b): 1.5,
            flow.given(label=null): -2.0} guides to both a and b.

    Returns:
        The mixed velocity, a teacher.

    Raises:
        TypeError: A member has no velocity(x, t).
        ValueError: The weights do not sum to 1, or the members are on different paths.
    """
    if not isinstance(weights, Mapping) or not weights:
        raise TypeError(f"a mixture is made of velocities with their weights, {{v: 1.0}}, got {shown(weights)}")
    finite(**{f"weight {place}": weight for place, weight in enumerate(weights.values(), 1)})
    if abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(f"the weights of a mixture of velocities must sum to 1, got {list(weights.values())}")
    return Mixture(_checked(*weights), list(weights.values()))


def _checked(*teachers: Any) -> tuple[Any, ...]:
    """Check that models have velocities on one path, and warn about guidance that is baked in."""
    for teacher in teachers:
        if not callable(getattr(teacher, "velocity", None)) or isinstance(teacher, type):
            raise TypeError(f"guidance needs velocities, objects with velocity(x, t), and got {shown(teacher)}")
        baked = getattr(teacher, "guidance", None)
        if isinstance(baked, GuidanceSpec) and not isinstance(teacher, GuidedVelocity):
            warnings.warn(BAKED.format(baked), stacklevel=3)
    known = [path for teacher in teachers if isinstance(path := getattr(teacher, "path", None), Path)]
    if any(path != known[0] for path in known):
        raise ValueError(f"velocities on different paths cannot be mixed: {', '.join(map(str, known))}")
    return teachers
