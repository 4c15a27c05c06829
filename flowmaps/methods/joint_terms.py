"""Any method as a method of joint maps: its terms with packed rows, and a loss of the divergence beside each loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..consistency import (
    compositional,
    cycle,
    diffusion,
    eulerian,
    function_of,
    lagrangian,
)
from ..finite_steps import eulerian_step, lagrangian_step, same_endpoint
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.several import Several
from ..method.term import RuleAround, Term, changed
from ..velocity import Discriminator, VelocitySource
from ..velocity.divergence import Divergence
from ..velocity.joint import ADVICE, JointTeachers, Packed, joint_network, packed, signs_of_rows, unpacked
from ..weight import Weight

RULES = (diffusion, compositional, lagrangian, eulerian, cycle, eulerian_step, lagrangian_step, same_endpoint)
"""The rules of the library that compare coordinate by coordinate, so that they hold at the joint state too."""
OF_CHANGE = "_divergence"
"""End of the name of the loss of the divergence."""


@dataclass(frozen=True)
class JointRule(RuleAround):
    """A rule at the joint state (x, l), for a flow map whose network has a head.

    The residual of the rule at packed rows is split into the one of the state, which has the name of the term, and the
    one of the divergence, in units of `scale`.

    Args:
        rule: The rule.
        name: Name of its residual, if it returns one.
        trace: The divergence of velocities.
    """

    trace: Divergence

    def __call__(
        self,
        flow: FlowMap,
        teacher: Any,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        *,
        probes: Tensor | None = None,
        marginal: Any = None,
        **options: Any,
    ) -> dict[str, Tensor]:
        """The residuals by name.

        Args:
            flow: The joint map.
            teacher: The velocity of states.
            x: States x_s, (B, ...).
            s: Source times, (B, 1, ..., 1).
            t: Target times, likewise.
            probes: Directions of an estimated divergence, (B, K, ...). None: drawn.
            marginal: The velocity whose divergence counts. None: the flow's, or the teacher's.
            **options: Options of the rule; teachers and numbers of rows are packed.

        Returns:
            For each residual of the rule one of x's shape, and one of the divergence, (B, 1).

        Raises:
            TypeError: The flow map has no head.
        """
        if joint_network(flow) is None:
            raise TypeError(
                f"this method trains a joint map, whose network has a head for the divergence: give {ADVICE} instead "
                "of the flow map"
            )
        shape = tuple(x.shape[1:])
        directions = self.trace.draw(x) if probes is None else probes.transpose(0, 1)
        joint = JointTeachers(flow, shape, self.trace, directions, marginal)
        changed = {name: _packed_option(joint, value, x) for name, value in options.items()}
        columns = [time.reshape(-1, 1) for time in (s, t)]
        found = self.rule(Packed(flow, shape), joint(teacher), packed(x), *columns, **changed)
        parts = {}
        for name, residual in self.named(found).items():
            parts[name], parts[f"{name}{OF_CHANGE}"] = unpacked(residual, shape)
        return parts


def _packed_option(joint: JointTeachers, value: Any, x: Tensor) -> Any:
    """An option of a rule for packed rows: a teacher, or numbers of rows."""
    if callable(getattr(value, "velocity", None)):
        return joint(value)
    if not isinstance(value, Tensor) or value.ndim != x.ndim or len(value) != len(x):
        return value
    return packed(value) if value.shape == x.shape else value.reshape(len(x), -1)


def joint_method(
    method: Method, name: str, trace: Divergence, weight: Weight, marginal: VelocitySource | None = None
) -> Method:
    """A method of joint maps.

    Args:
        method: A method of flow maps. It is used up: its companions belong to the new one.
        name: Name of the new method.
        trace: The divergence of velocities.
        weight: Weight of the residual of the divergence.
        marginal: Source of the velocity whose divergence counts. None: the flow's own, or the teacher's.

    Returns:
        The method, with the same shares, times, derivatives and weights of the state.

    Raises:
        ValueError: A term compares whole states.
    """
    if isinstance(method, Several):
        return method.each(lambda one: joint_method(one, name, trace, weight, marginal), name)
    made = Method(*(joint_term(term, trace, weight, marginal) for term in method.terms), name=name)
    made.hidden, made.trains_flow = method.hidden, method.trains_flow
    return made


def joint_term(term: Term, trace: Divergence, weight: Weight, marginal: VelocitySource | None = None) -> Term:
    """A term at the joint state, see `joint_method`."""
    refuse_mixing(term)
    probes = getattr(trace, "probes", None)
    drawn = {} if probes is None else {"probes": signs_of_rows(probes)}
    return changed(
        term,
        lambda now: JointRule(now.rule, term.name, trace),
        lambda now: _weights(now, weight),
        draws={**term.draws, **drawn},
        sources={**term.sources, **({} if marginal is None else {"marginal": marginal})},
    )


def _weights(term: Term, weight: Weight) -> dict[str, Weight]:
    """The weights of a term by name, with the ones of the divergence."""
    each = term.weight if isinstance(term.weight, Mapping) else {term.name: term.weight}
    return {**each, **{f"{name}{OF_CHANGE}": weight for name in each}}


def refuse_mixing(term: Term) -> None:
    """Refuse a term whose loss mixes coordinates of a state, so that it says nothing of the divergence.

    Raises:
        ValueError: It has a discriminator, a distance of images, or a rule of the library that is not in `RULES`.
    """
    rule, options = function_of(term.rule), getattr(term.rule, "keywords", {})
    judged = any(isinstance(source, Discriminator) for source in (term.velocity, *term.sources.values()))
    ours = str(getattr(rule, "__module__", "")).partition(".")[0] == "flowmaps"
    if judged or (ours and rule not in RULES) or options.get("compare", torch.sub) is not torch.sub:
        raise ValueError(
            f"the term {term.name!r} compares whole states, and no joint map follows from it: take a method of the "
            f"rules {', '.join(one.__name__ for one in RULES)}, such as fm.methods.lsd, imf, esd or psd"
        )
