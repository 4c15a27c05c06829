"""Method = terms with shares of the batch; term = rule x velocity source x times x weight.

    loss = sum over terms of  share * mean over its rows of  weight(rule(flow, teacher, x_s, s, t), s, t)

The batch is split between the terms, statically, instead of every term seeing all rows under a mask: the expectation is
the same and no row is paid for twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .consistency import Rule, diffusion, refuse
from .derivative import keep
from .flow_map import FlowMap
from .path import Time, expand
from .times import Times, uniform_triangle
from .velocity import Auxiliary, Companion, Pair, VelocitySource, conditional, is_conditional
from .weight import Weight, squared

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
    - sources: more teachers, by the name of the rule's option that takes them, such as {"along": own}
    - curriculum: (term, progress in [0, 1]) -> the term at that moment of training
    - start: (pair, s) -> x_s; `from_noise` for methods without data
    - couple: which data go with which noise; by default as they were drawn
    - balance: by name, (first loss of the method, this one, flow) -> a factor, for losses that are held in proportion
    - name: in `loss.terms`; the rule's name by default

    Raises ValueError for a rule that would be wrong with these velocities, saying why, and for a share outside (0, 1].
    """

    rule: Rule
    velocity: VelocitySource = conditional
    share: float = 1.0
    times: Times = field(default_factory=uniform_triangle)
    weight: Weight | Mapping[str, Weight] = squared
    sources: Mapping[str, VelocitySource] = field(default_factory=dict)
    curriculum: Callable[[Term, float], Term] | None = None
    start: Start = from_data
    couple: Callable[[Pair], Pair] = keep
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

    def losses(self, flow: FlowMap, pair: Pair, s: Tensor, t: Tensor) -> dict[str, TermLoss]:
        """The residuals on these rows and their weighted means; s and t as (B,). The diffusion rule has one time, t =
        s.
        """
        t = s if function_of(self.rule) is diffusion else t
        pair = self.couple(pair)
        x = self.start(pair, s)
        flow = flow.given(**pair.condition) if pair.condition else flow
        options = {name: source(flow, pair) for name, source in self.sources.items()}
        found = self.rule(flow, self.velocity(flow, pair), x, expand(s, x), expand(t, x), **options)
        residuals = found if isinstance(found, Mapping) else {self.name: found}
        if unknown := self.balance.keys() - residuals.keys():
            raise ValueError(f"the balance of {sorted(unknown)} fits no loss of this term: {', '.join(residuals)}")
        return {name: TermLoss(self._weigh(name, r, s, t).mean(), r, s, t) for name, r in residuals.items()}

    def _weigh(self, name: str, residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        if not isinstance(self.weight, Mapping):
            return self.weight(residual, s, t)
        if name not in self.weight:
            raise ValueError(f"the term {self.name!r} has no weight for {name!r}, only for {', '.join(self.weight)}")
        return self.weight[name](residual, s, t)


@dataclass(frozen=True)
class TermLoss:
    """What one term saw: value (scalar), residual (B, ...) on the graph, s and t (B,)."""

    value: Tensor
    residual: Tensor
    s: Tensor
    t: Tensor


@dataclass(frozen=True)
class Loss:
    """value: the scalar to call backward() on. terms: name -> TermLoss."""

    value: Tensor
    terms: dict[str, TermLoss]


class Method(nn.Module):
    """One or more terms. A module, because learned weights and averaged targets have weights: optimise
    `method.parameters()` with the flow's.

    `method.loss(flow, x0)` is all that a training loop needs.
    """

    def __init__(self, *terms: Term, name: str = "method") -> None:
        super().__init__()
        if not terms:
            raise ValueError("a method needs at least one term")
        self.name = name
        self.terms = _named(terms)
        self.parts = nn.ModuleList(dict.fromkeys(part for term in terms for part in term.parts))

    @property
    def data_free(self) -> bool:
        """Whether no term reads data: x0 then only says shape, dtype and device."""
        return not any(term.reads_data for term in self.terms)

    @property
    def auxiliaries(self) -> list[Auxiliary]:
        """The networks beside the flow that need optimisers of their own."""
        return [part for part in self.modules() if isinstance(part, Auxiliary)]

    def loss(
        self,
        flow: FlowMap,
        x0: Tensor,
        condition: Tensor | Mapping[str, Any] | None = None,
        *,
        noise: Tensor | None = None,
        times: tuple[Time, Time] | None = None,
        progress: float = 0.0,
    ) -> Loss:
        """The loss on a batch of data x0 (B, ...).

        condition: a dict of what the network takes beside x, s, t (tensors have B rows, or are 0-d), or a tensor, which
        means {"label": tensor}. noise: fixes eps. times=(s, t): overrides the samplers of all terms, and then every
        term sees the whole batch. progress: the share of training that is done, for curricula.
        Raises ValueError for data that is not a floating-point batch, noise of another shape, times outside [0, 1] or
        NaN, a condition with another number of rows, a batch with fewer rows than terms, and for what `FlowMap`
        refuses.
        """
        _check_data(x0, noise)
        self.follow(flow, progress)
        eps = torch.randn_like(x0) if noise is None else noise
        known = _condition(condition, len(x0))
        value = x0.new_zeros(())
        losses: dict[str, TermLoss] = {}
        for term, rows in zip(self.terms, self._rows(len(x0), whole=times is not None), strict=True):
            now = term.at(progress)
            pair = Pair(x0[rows], eps[rows], flow.path, {key: _take(item, rows) for key, item in known.items()})
            s, t = now.times(len(pair.x0), progress, x0) if times is None else _given(times, x0)
            for name, loss in now.losses(flow, pair, s, t).items():
                first = next(iter(losses.values()), loss)
                factor = now.balance[name](first, loss, flow) if name in now.balance else 1.0
                value = value + now.share * factor * loss.value
                losses[_numbered(name, losses)] = loss
        return Loss(value, losses)

    def forward(
        self, flow: FlowMap, x0: Tensor, condition: Tensor | Mapping[str, Any] | None = None, **options: Any
    ) -> Loss:
        """The same as `loss`."""
        return self.loss(flow, x0, condition, **options)

    def follow(self, flow: FlowMap, progress: float = 0.0) -> None:
        """Make what has weights beside the flow, and move it where the flow's weights or the phase have changed. `loss`
        does it; a compiled loss needs it called outside, and optimisers are made after it.
        """
        if not torch.compiler.is_compiling():
            for part in self.parts:
                if isinstance(part, Companion):
                    part.follow(flow, progress)

    def begin(self, flow: FlowMap) -> None:
        """Before the first step of a run: what has weights beside the flow forgets the run before."""
        for part in self.modules():
            if isinstance(part, Companion):
                part.restart(flow)

    def _rows(self, batch: int, whole: bool) -> Iterator[slice]:
        """The rows of each term: all of them, or consecutive parts in proportion to the shares, at least one row
        each.
        """
        counts = [batch] * len(self.terms) if whole else split_rows(batch, [term.share for term in self.terms])
        start = 0
        for count in counts:
            yield slice(start, start + count)
            start += 0 if whole else count

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{term.name}: {term.share:g}' for term in self.terms)})"


def split_rows(batch: int, shares: Sequence[float]) -> list[int]:
    """`batch` rows in proportion to the shares (largest remainders), at least one each. Raises ValueError for fewer
    rows than shares.
    """
    if batch < len(shares):
        raise ValueError(f"a batch of {batch} cannot be shared by {len(shares)} terms: it needs a row for each")
    exact = [share / sum(shares) * batch for share in shares]
    counts = [max(1, int(e)) for e in exact]
    while sum(counts) != batch:
        short = sum(counts) < batch
        gaps = [e - c for e, c in zip(exact, counts, strict=True)]
        i = gaps.index(max(gaps)) if short else min((i for i, c in enumerate(counts) if c > 1), key=gaps.__getitem__)
        counts[i] += 1 if short else -1
    return counts


def _named(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Terms with names of their own: a second `compositional` becomes `compositional_2`."""
    named: dict[str, Term] = {}
    for term in terms:
        name = _numbered(term.name, named)
        named[name] = term if name == term.name else replace(term, name=name)
    return tuple(named.values())


def _numbered(name: str, taken: Container[str]) -> str:
    """The name, or where it is taken the first of name_2, name_3, ... that is not."""
    new, count = name, 1
    while new in taken:
        count += 1
        new = f"{name}_{count}"
    return new


def function_of(rule: Rule) -> Any:
    """A rule without the options that are bound to it."""
    return function_of(rule.func) if isinstance(rule, functools.partial) else rule


def _condition(condition: Tensor | Mapping[str, Any] | None, batch: int) -> dict[str, Any]:
    known = {"label": condition} if isinstance(condition, Tensor) else dict(condition or {})
    for key, value in known.items():
        if isinstance(value, Tensor) and value.ndim and len(value) != batch:
            raise ValueError(
                f"the condition {key!r} needs a row for each of the {batch} of x0, got {tuple(value.shape)}"
            )
    return known


def _take(value: Any, rows: slice) -> Any:
    return value[rows] if isinstance(value, Tensor) and value.ndim else value


def _given(times: tuple[Time, Time], x0: Tensor) -> tuple[Tensor, Tensor]:
    if not isinstance(times, Sequence) or len(times) != 2:
        raise ValueError(f"times must be a pair (s, t) of a source and a target time, got {times}")
    s, t = (expand(time, x0).reshape(len(x0)) for time in times)
    for name, time in (("source", s), ("target", t)):
        outside = time[~((time >= 0) & (time <= 1))]
        if len(outside):
            raise ValueError(f"{name} times must lie in [0, 1] (0 is data, 1 is noise), got {outside[0].item():g}")
    return s, t


def _check_data(x0: Tensor, noise: Tensor | None) -> None:
    if not isinstance(x0, Tensor) or x0.ndim < 2 or not x0.is_floating_point():
        got = f"{x0.dtype} of shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else type(x0).__name__
        raise ValueError(f"x0 must be a batch of floating-point data, (B, ...), got {got}")
    if noise is not None and noise.shape != x0.shape:
        raise ValueError(f"noise must have the shape of x0, {tuple(x0.shape)}, got {tuple(noise.shape)}")
