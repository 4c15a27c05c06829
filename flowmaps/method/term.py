"""A term: rule x velocity source x times x weight, on its share of the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..consistency import Rule, function_of, is_diagonal, refuse
from ..draws import Numbers, Rows
from ..flow_map import FlowMap
from ..path import expand
from ..times.samplers import Times, uniform_triangle
from ..velocity import Pair, VelocitySource, conditional, is_conditional
from ..weight import Weight, squared

Start = Callable[[Pair, Tensor], Tensor]


def from_data(pair: Pair, s: Tensor) -> Tensor:
    """x_s = alpha(s) x_0 + sigma(s) eps."""
    return pair.path.interpolate(pair.x0, pair.eps, s)


def noise_alone(pair: Pair, s: Tensor) -> Tensor:
    """x_1 = sigma(1) eps, whatever s: the data do not enter."""
    return pair.path.interpolate(torch.zeros_like(pair.eps), pair.eps, 1.0)


def from_noise(pair: Pair, s: Tensor) -> Tensor:
    """x_1 = sigma(1) eps where s = 1: the data do not enter. (Source times below 1, which only a caller gives, need
    them.)
    """
    return torch.where(expand(s, pair.x0) == 1, noise_alone(pair, s), from_data(pair, s))


def as_drawn(pair: Pair) -> Pair:
    """Each row of the data with the noise that was drawn with it."""
    return pair


Balance = Callable[["TermLoss", "TermLoss", FlowMap], Tensor]


@dataclass(frozen=True)
class Term:
    """A residual and how it enters a loss.

    - rule: a function of `consistency` or `finite_steps` (options bound with functools.partial), or any rule(flow,
      teacher, x, s, t) that returns a residual (B, ...); where one computation gives several, a dict of them by name
    - velocity: the source of the teacher that the rule compares with (`velocity`)
    - share: its part of the batch, and its weight in the sum
    - times: the sampler of (s, t)
    - weight: from the residual to one number for each row; where there are several, one for all or a dict by name
    - draws: random numbers that the rule takes, by the name of its option, such as {"g": draws.uniform}
    - sources: more teachers, by the name of the rule's option that takes them, such as {"along": own}
    - curriculum: (term, progress in [0, 1]) -> the term at that moment of training
    - start: (pair, s) -> x_s; `from_noise` for methods without data
    - couple: pair -> pair: which data go with which noise, and under which condition; by default as drawn
    - factor: pair -> what the residuals of each row are multiplied with, (B,)
    - balance: by name, (first loss of the method, this one, flow) -> a factor, for losses that are held in proportion
    - name: in `loss.terms`; the rule's name by default

    Raises ValueError for a rule that would be wrong with these velocities, saying why, and for a share outside (0, 1].
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
    name: str = ""

    def __post_init__(self) -> None:
        refuse(self.rule, self.velocity, self.sources)
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of a term must lie in (0, 1], got {self.share}")
        if not self.name:
            object.__setattr__(self, "name", function_of(self.rule).__name__)

    def at(self, progress: float) -> Term:
        """The term at this moment of training."""
        return self.curriculum(self, progress) if self.curriculum else self

    def given(self, **options: Any) -> Term:
        """The same term with options of its rule bound."""
        return replace(self, rule=functools.partial(self.rule, **options))

    @property
    def diagonal(self) -> bool:
        """Whether the rule lives on the diagonal, t = s."""
        return is_diagonal(self.rule)

    @property
    def reads_data(self) -> bool:
        """Whether the values of x_0 enter."""
        return self.start not in (from_noise, noise_alone) or any(
            map(is_conditional, (self.velocity, *self.sources.values()))
        )

    @property
    def parts(self) -> list[nn.Module]:
        """What has weights: sources, weights."""
        weights = self.weight.values() if isinstance(self.weight, Mapping) else [self.weight]
        return [part for part in (self.velocity, *self.sources.values(), *weights) if isinstance(part, nn.Module)]

    def draw(self, pair: Pair, progress: float = 0.0, times: tuple[Tensor, Tensor] | None = None) -> Pair:
        """The pair with everything random that the term adds: times, unless given as (B,), and the rule's numbers."""
        draw = functools.partial(pair.rows.draw, like=pair.x0)
        s, t = draw(lambda n, like: self.times(n, progress, like)) if times is None else times
        return replace(pair, s=s, t=s if self.diagonal else t, numbers={k: draw(one) for k, one in self.draws.items()})

    def losses(self, flow: FlowMap, pair: Pair) -> dict[str, TermLoss]:
        """The residuals of a pair that `draw` has completed, and their weighted means, by name."""
        pair = self.couple(pair)
        s, t, x = pair.s, pair.t, self.start(pair, pair.s)
        flow = flow.given(**pair.condition) if pair.condition else flow
        options = {name: source(flow, pair) for name, source in self.sources.items()}
        found = self.rule(flow, self.velocity(flow, pair), x, expand(s, x), expand(t, x), **pair.numbers, **options)
        residuals = found if isinstance(found, Mapping) else {self.name: found}
        if self.factor is not None:
            factor = self.factor(pair)
            residuals = {name: expand(factor, r).to(r.dtype) * r for name, r in residuals.items()}
        if unknown := self.balance.keys() - residuals.keys():
            raise ValueError(f"the balance of {sorted(unknown)} fits no loss of this term: {', '.join(residuals)}")
        mean = {name: pair.rows.scale * self._weigh(name, r, s, t).mean() for name, r in residuals.items()}
        return {name: TermLoss(mean[name], r, s, t, pair.rows) for name, r in residuals.items()}

    def _weigh(self, name: str, residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        if not isinstance(self.weight, Mapping):
            return self.weight(residual, s, t)
        if name not in self.weight:
            raise ValueError(f"the term {self.name!r} has no weight for {name!r}, only for {', '.join(self.weight)}")
        return self.weight[name](residual, s, t)


@dataclass(frozen=True)
class TermLoss:
    """What one term saw: value (scalar), residual (B, ...) on the graph, s and t (B,), and which rows these are.

    Where only some rows are here, the mean of `value` over all parts of the batch is the value of the whole batch.
    """

    value: Tensor
    residual: Tensor
    s: Tensor
    t: Tensor
    rows: Rows = Rows()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of detached values (B,) over all rows of the term, those of other processes too."""
        return self.rows.mean(self.rows.scale * values.mean())
