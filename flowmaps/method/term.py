"""A term of a method: a rule with its velocity source, times and weight, on a share of the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..arguments import at_least, brief_repr, finite, given, refuse_factory, shown
from ..consistency import Rule, function_of, is_by_frames, is_diagonal, refuse, refuse_flat
from ..derivative import stop
from ..draws import Numbers, Rows, normal
from ..flow_map import FlowMap
from ..path import Path, expand, expand_frames
from ..path.time_shapes import common_frames, frames_as_rows
from ..times.samplers import Times, uniform_triangle
from ..velocity import Pair, VelocitySource, conditional, is_conditional
from ..weight import Weight, plain, squared

Start = Callable[[FlowMap, Pair, Tensor], Tensor]
"""(flow, pair, s) -> the state x_s at which a rule is evaluated, (B, ...), with the flow bound to its condition."""


def from_data(flow: FlowMap, pair: Pair, s: Tensor) -> Tensor:
    """Return x_s = alpha(s) x_0 + sigma(s) eps."""
    return pair.path.interpolate(pair.x0, pair.eps, s)


def noise_alone(flow: FlowMap, pair: Pair, s: Tensor) -> Tensor:
    """Return x_1 = sigma(1) eps for every s; data are not used."""
    return pair.path.interpolate(torch.zeros_like(pair.eps), pair.eps, 1.0)


def from_noise(flow: FlowMap, pair: Pair, s: Tensor) -> Tensor:
    """Return x_1 = sigma(1) eps in rows with s = 1, which use no data, and x_s of `from_data` in the others.

    The samplers of data-free methods draw only s = 1; smaller source times come only from `Method.loss(times=...)`.
    """
    return torch.where(expand(s, pair.x0) == 1, noise_alone(flow, pair, s), from_data(flow, pair, s))


noise_alone.reads_data = from_noise.reads_data = False  # type: ignore[attr-defined]


@dataclass(frozen=True)
class OnPolicy:
    """Start at the states of the map's own sampling: jumps from noise along levels, without gradient.

    The backward simulation of DMD2, Yin et al. 2024, arXiv 2405.14867. It costs a jump for each level but the last.

    Args:
        levels: Times of the sampler from 1 downwards, such as (1.0, 0.75, 0.5, 0.25): the source times of its jumps.

    Raises:
        ValueError: The levels do not fall from 1 to a positive number.
    """

    levels: tuple[float, ...] = (1.0,)
    reads_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        falling = all(a > b > 0 for a, b in pairwise(self.levels))
        if not self.levels or self.levels[0] != 1 or not falling:
            raise ValueError(f"on-policy states need levels that fall from 1 and stay above 0, got {self.levels}")

    def __call__(self, flow: FlowMap, pair: Pair, s: Tensor) -> Tensor:
        """The state x_s of each row, whose s is one of the levels."""
        x = noise_alone(flow, pair, s)
        level = expand(s, x)
        for here, there in pairwise(self.levels):
            x = torch.where(level < (here + there) / 2, stop(flow)(x, here, there), x)
        return x


@dataclass(frozen=True)
class Restarted(OnPolicy):
    """Start at the states of a map to t = 0 that is sampled by `steps.restart`: jumps to data, with new noise added.

    Every level but the last costs a jump. Arguments and errors as for `OnPolicy`.
    """

    @property
    def draws(self) -> dict[str, Numbers]:
        """The noise of all restarts, (n, restarts, ...)."""
        restarts = len(self.levels) - 1
        return {RESTARTS: lambda n, like: normal(n * restarts, like).unflatten(0, (n, restarts))} if restarts else {}

    def __call__(self, flow: FlowMap, pair: Pair, s: Tensor) -> Tensor:
        """The state x_s of each row, whose s is one of the levels."""
        x = noise_alone(flow, pair, s)
        level = expand(s, x)
        for k, (here, there) in enumerate(pairwise(self.levels)):
            again = flow.path.renoise(stop(flow)(x, here, 0.0), 0.0, there, pair.numbers[RESTARTS][:, k])
            x = torch.where(level < (here + there) / 2, again, x)
        return x


RESTARTS = "noise of restarts"


def as_drawn(pair: Pair) -> Pair:
    """Return the pair unchanged: each data row keeps the noise that was drawn for it."""
    return pair


Balance = Callable[["TermLoss", "TermLoss", FlowMap], Tensor]
"""(first loss of the method, this loss, flow) -> factor of this loss, a scalar."""


@dataclass(frozen=True)
class Term:
    """A term: the residual of a rule, and how it enters the loss.

    Args:
        rule: Function of `consistency` or `finite_steps` (options bound by functools.partial), or any rule(flow,
            teacher, x, s, t) that returns a residual (B, ...), or a dict of several residuals by name.
        velocity: Source of the teacher that the rule compares with (`velocity`).
        share: Share of the batch in (0, 1], and weight of the term in the sum.
        times: Sampler of (s, t), of rows or per frame (`times.per_frame`). With times per frame each frame is weighed
            as a row.
        weight: Function from a residual to one number for each row. A dict by name for different weights of several
            residuals.
        draws: Random numbers that the rule takes, by the name of its option, such as {"g": draws.uniform}.
        sources: More teachers, by the name of the rule's option that takes them, such as {"along": own}.
        curriculum: Function (term, progress in [0, 1]) -> the term at that moment of training. None: always the same.
        start: Function (flow, pair, s) -> x_s; `from_noise` for methods without data, `OnPolicy` and `Restarted` for
            the states of the map's own sampling.
        couple: Function pair -> pair that pairs data with noise or changes conditions. By default nothing changes.
        factor: Function pair -> factor (B,) of the residuals. None: 1.
        balance: Functions by the name of a residual, (first loss of the method, this loss, flow) -> factor of this
            loss, see `balance`.
        group: Rows of a block, for a loss that couples rows: they stay together on one process and in one accumulated
            part (`Rows.blocks`). `draws.WHOLE`: it couples all rows of the term, so that it refuses several processes
            and parts. None: rows are independent.
        name: Key in `loss.terms`. "": the name of the rule.

    Raises:
        ValueError: The rule is wrong with these velocities (the message has the reason), or the share is outside
            (0, 1].
    """

    rule: Rule
    velocity: VelocitySource = conditional
    share: float = 1.0
    times: Times = field(default_factory=uniform_triangle)
    weight: Weight | Mapping[str, Weight] = squared
    draws: Mapping[str, Numbers] = field(default_factory=dict)
    sources: Mapping[str, VelocitySource] = field(default_factory=dict)
    curriculum: Callable[[Term, float], Term] | None = None
    start: Start = from_data
    couple: Callable[[Pair], Pair] = as_drawn
    factor: Callable[[Pair], Tensor] | None = None
    balance: Mapping[str, Balance] = field(default_factory=dict)
    group: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        for name, value in (("rule", self.rule), ("velocity", self.velocity), ("times", self.times)):
            if not callable(value):
                raise TypeError(f"the {name} of a term is a function, got {shown(value)}")
        if not callable(self.weight) and not isinstance(self.weight, Mapping):
            raise TypeError(f"the weight of a term is a function, or several by name, got {shown(self.weight)}")
        refuse_factory("the times of a term", self.times, "Times")
        refuse_factory("the velocity of a term", self.velocity, "VelocitySource")
        for weight in self.weight.values() if isinstance(self.weight, Mapping) else (self.weight,):
            refuse_factory("the weight of a term", weight, "Weight")
        options = self.rule.keywords if isinstance(self.rule, functools.partial) else {}
        refuse_factory("the derivative of a rule", options.get("derivative"), "Derivative")
        refuse(self.rule, self.velocity, self.sources)
        finite(share=self.share)
        at_least(0, **given(group=self.group))
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of a term must lie in (0, 1], got {self.share}")
        if not self.name:
            object.__setattr__(self, "name", function_of(self.rule).__name__)

    def at(self, progress: float) -> Term:
        """Return the term at a share `progress` of training."""
        return self.curriculum(self, progress) if self.curriculum else self

    def given(self, **options: Any) -> Term:
        """Return the same term with options of its rule bound."""
        return replace(self, rule=functools.partial(self.rule, **options))

    @property
    def diagonal(self) -> bool:
        """Whether the rule uses the diagonal t = s only."""
        return is_diagonal(self.rule)

    @property
    def reads_data(self) -> bool:
        """Whether the loss depends on the values of x_0."""
        return getattr(self.start, "reads_data", True) or any(
            map(is_conditional, (self.velocity, *self.sources.values()))
        )

    @property
    def parts(self) -> list[nn.Module]:
        """The velocity sources, samplers of times and loss weights that are modules."""
        weights = self.weight.values() if isinstance(self.weight, Mapping) else [self.weight]
        parts = (self.velocity, *self.sources.values(), self.times, *weights)
        return [part for part in parts if isinstance(part, nn.Module)]

    def draw(self, pair: Pair, progress: float = 0.0, times: tuple[Tensor, Tensor] | None = None) -> Pair:
        """Add everything random of this term to a pair: times and the random numbers of the rule.

        Args:
            pair: Data, noise and condition of the term's rows.
            progress: Share of training that is done, in [0, 1].
            times: Times (s, t), each (B,). None: drawn.

        Returns:
            The completed pair.
        """
        draw = functools.partial(pair.rows.draw, like=pair.x0)
        s, t = draw(lambda n, like: self.times(n, progress, like)) if times is None else self._in_blocks(pair, times)
        numbers = {name: draw(one) for name, one in {**self.draws, **self._of_start}.items()}
        return replace(pair, s=s, t=s if self.diagonal else t, numbers=numbers)

    @property
    def _of_start(self) -> Mapping[str, Numbers]:
        """Random numbers of the start, which the rule does not get."""
        return getattr(self.start, "draws", {})

    def _in_blocks(self, pair: Pair, times: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Check that the rows of a block have the same given times."""
        blocks = [pair.rows.blocks(time) for time in times]
        if self.group and any(bool((block != block[:, :1]).any()) for block in blocks):
            raise ValueError(
                f"the term {self.name} compares the rows of a block at one pair of times, but the given times differ "
                "within a block: give numbers, or draw them by times.grouped"
            )
        return times

    def losses(self, flow: FlowMap, pair: Pair) -> dict[str, TermLoss]:
        """Compute the weighted mean of each residual.

        Args:
            flow: The flow map in training.
            pair: A pair completed by `draw`.

        Returns:
            The loss of each residual, by name.

        Raises:
            ValueError: A balance or a weight does not match the names of the residuals.
        """
        self.check_path(pair.path)
        pair = self.couple(pair)
        flow = flow.given(**pair.condition).prepared() if pair.condition else flow
        s, t, frames = common_frames(pair.s, pair.t, pair.x0)
        if frames is not None:
            self._check_frames()
        x = self.start(flow, pair, s)
        options = {name: source(flow, pair) for name, source in self.sources.items()}
        options |= {name: number for name, number in pair.numbers.items() if name not in self._of_start}
        found = self.rule(flow, self.velocity(flow, pair), x, expand_frames(s, x), expand_frames(t, x), **options)
        residuals = found if isinstance(found, Mapping) else {self.name: found}
        if self.factor is not None:
            factor = self.factor(pair)
            residuals = {name: expand(factor, r).to(r.dtype) * r for name, r in residuals.items()}
        if unknown := self.balance.keys() - residuals.keys():
            raise ValueError(f"the balance of {sorted(unknown)} matches no loss of this term: {', '.join(residuals)}")
        is_distance = {name: self._is_distance(name, r, x) for name, r in residuals.items()}
        if frames is not None:
            residuals = {name: frames_as_rows(r, frames) for name, r in residuals.items()}
            s, t = s.flatten(), t.flatten()
        mean = {name: pair.rows.scale * self._weigh(name, r, s, t).mean() for name, r in residuals.items()}
        return {name: TermLoss(mean[name], r, s, t, pair.rows, is_distance[name]) for name, r in residuals.items()}

    def _check_frames(self) -> None:
        """Raise ValueError if the term takes one time a row alone."""
        rule = function_of(self.rule)
        if not is_by_frames(rule):
            raise ValueError(
                f"the rule {rule.__name__} of the term {self.name} takes one time a row, and these are times per "
                "frame: take a rule that is marked by consistency.by_frames, such as fm.consistency.lagrangian"
            )
        if self.start is not from_data:
            raise ValueError(
                f"the term {self.name} starts at states of a sampler with one time a row, and these are times per frame"
            )

    def check_path(self, path: Path) -> None:
        """Raise ValueError for a rule of flat space on a curved path."""
        refuse_flat(self.rule, path, self.name)

    def _weigh(self, name: str, residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Apply the weight of a residual: (B, ...) -> (B,)."""
        return self._weight_of(name)(residual, s, t)

    def _weight_of(self, name: str) -> Weight:
        """Return the weight of a residual."""
        if not isinstance(self.weight, Mapping):
            return self.weight
        if name not in self.weight:
            raise ValueError(f"the term {self.name!r} has no weight for {name!r}, only for {', '.join(self.weight)}")
        return self.weight[name]

    def _is_distance(self, name: str, residual: Tensor, x: Tensor) -> bool:
        """Whether a residual is no difference whose square has a meaning.

        It has no weight, is one number for a whole row, or is compared by its weight, such as features.
        """
        weight = self._weight_of(name)
        return weight is plain or getattr(weight, "compares", False) or residual[0].numel() == 1 < x[0].numel()


@dataclass(frozen=True)
class RuleAround:
    """Base of a rule around another one, with its name and its use of the diagonal.

    Args:
        rule: The rule.
        name: Name of its residual, if it returns one.
    """

    rule: Rule
    name: str

    @property
    def diagonal(self) -> bool:
        """Whether the rule uses the diagonal t = s only."""
        return is_diagonal(self.rule)

    @property
    def __name__(self) -> str:
        """Name of the rule."""
        return function_of(self.rule).__name__

    def named(self, found: Any) -> dict[str, Tensor]:
        """Residuals of the rule by name."""
        return dict(found) if isinstance(found, Mapping) else {self.name: found}


CHANGES = ("rule", "velocity", "times", "weight")
"""Parts of a term that a curriculum may change."""


def changed(
    term: Term, rule: Callable[[Term], Rule], weight: Callable[[Term], Weight | Mapping[str, Weight]], **others: Any
) -> Term:
    """A term whose rule and weight are made of those of another one, at each moment of its curriculum.

    Args:
        term: The other term.
        rule: Function from the term at a moment to the new rule.
        weight: Function from the term at a moment to the new weight.
        **others: Further parts of the new term.
    """

    def at(new: Term, progress: float) -> Term:
        now = term.at(progress)
        parts: dict[str, Any] = {k: getattr(now, k) for k in CHANGES if getattr(now, k) is not getattr(term, k)}
        if "rule" in parts:
            parts["rule"] = rule(now)
        if "weight" in parts:
            parts["weight"] = weight(now)
        return replace(new, **parts)

    follows = None if term.curriculum is None else at
    return replace(term, rule=rule(term), weight=weight(term), curriculum=follows, **others)


@dataclass(frozen=True)
class TermLoss:
    """The loss of one residual.

    Attributes:
        value: Scalar. For one part of a batch, it is scaled so that the average over all parts is the loss of the whole
            batch.
        residual: Residual (B, ...), with its graph. With times per frame it has a row for each of B F frames.
        s: Source times (B,), or (B F,) of frames.
        t: Target times, likewise.
        rows: Rows of the batch that these are.
        is_distance: Whether the residual is a distance or a loss already, so that its square has no meaning.
    """

    value: Tensor
    residual: Tensor
    s: Tensor
    t: Tensor
    rows: Rows = Rows()
    is_distance: bool = False

    __repr__ = brief_repr

    def mean(self, values: Tensor) -> Tensor:
        """Average detached values (B,) over all rows of the term, including the rows of other processes."""
        return self.rows.mean(self.rows.scale * values.mean())
