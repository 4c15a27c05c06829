"""Method = terms with shares of the batch; term = rule x velocity source x times x weight.

    loss = sum over terms of  share * mean over its rows of  weight(rule(flow, teacher, x_s, s, t), s, t)

The batch is split between the terms, statically, instead of every term seeing all rows under a mask: the expectation is
the same and no row is paid for twice.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..draws import Rows, normal
from ..flow_map import FlowMap
from ..path import Time, expand
from ..sampling import by_name
from ..velocity import Auxiliary, Companion, Pair
from .term import Term, TermLoss
from .wrapped import refuse_lost, refuse_wrapped


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
        rows: Rows = Rows(),
    ) -> Loss:
        """The loss on a batch of data x0 (B, ...): `follow`, `draw` and `measure`.

        condition: a dict of what the network takes beside x, s, t (tensors have B rows, or are 0-d), or a tensor, which
        means {"label": tensor}. noise: fixes eps. times=(s, t): overrides the samplers of all terms, and then every
        term sees the whole batch. progress: the share of training that is done, for curricula. rows: which rows of a
        larger batch these are.
        Raises ValueError for data that is not a floating-point batch, noise of another shape, times outside [0, 1] or
        NaN, a condition with another number of rows, a batch with fewer rows than terms, and for what `FlowMap`
        refuses. Raises RuntimeError where several processes train and nobody would average these gradients.
        """
        refuse_wrapped(flow)
        self.follow(flow, progress)
        if rows.every == 1:
            refuse_lost(flow, self)
        pairs = self.draw(flow, x0, condition, noise=noise, times=times, progress=progress, rows=rows)
        return self.measure(flow, pairs, progress)

    def draw(
        self,
        flow: FlowMap,
        x0: Tensor,
        condition: Tensor | Mapping[str, Any] | None = None,
        *,
        noise: Tensor | None = None,
        times: tuple[Time, Time] | None = None,
        progress: float = 0.0,
        rows: Rows = Rows(),
    ) -> tuple[Pair, ...]:
        """Everything random of a step: noise, times and the rules' own numbers, on each term's rows of the batch.
        Arguments as for `loss`.
        """
        rows = _checked(x0, noise, rows)
        eps = rows.draw(normal, x0) if noise is None else noise
        known = _condition(condition, len(x0))
        given = None if times is None else _given(times, x0)
        terms = self.now(progress)
        pairs = []
        for term, (here, of_term) in zip(terms, self._shares(rows, whole=given is not None), strict=True):
            own = {key: _take(item, here) for key, item in known.items()}
            pairs.append(term.draw(Pair(x0[here], eps[here], flow.path, own, rows=of_term), progress, given))
        return tuple(pairs)

    def measure(self, flow: FlowMap, pairs: Sequence[Pair], progress: float = 0.0) -> Loss:
        """The loss on what was drawn. Nothing is random here, but for what the network draws itself (dropout)."""
        return measure(flow, self.now(progress), pairs)

    def now(self, progress: float) -> tuple[Term, ...]:
        """The terms at this moment of training."""
        return tuple(term.at(progress) for term in self.terms)

    def forward(
        self, flow: FlowMap, x0: Tensor, condition: Tensor | Mapping[str, Any] | None = None, **options: Any
    ) -> Loss:
        """The same as `loss`."""
        return self.loss(flow, x0, condition, **options)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Make what has weights beside the flow, and move it where the flow's weights or the phase have changed. `loss`
        does it; a compiled loss needs it called outside, and optimisers are made after it. moved: whether the weights
        have changed since the last call, which a training loop knows; else their norms are compared.
        """
        if not torch.compiler.is_compiling():
            for part in self.parts:
                if isinstance(part, Companion):
                    part.follow(flow, progress, moved)

    def begin(self, flow: FlowMap) -> None:
        """Before the first step of a run: what has weights beside the flow forgets the run before."""
        for part in self.modules():
            if isinstance(part, Companion):
                part.restart(flow)

    def _shares(self, rows: Rows, whole: bool) -> Iterator[tuple[slice, Rows]]:
        """The rows of each term, as a slice of those here: all, or consecutive parts in proportion to the shares.

        Raises ValueError for a term that has no row here.
        """
        total = rows.total or 0
        counts = [total] * len(self.terms) if whole else split_rows(total, [term.share for term in self.terms])
        start = offset = 0
        for term, count in zip(self.terms, counts, strict=True):
            if count < rows.every:
                raise ValueError(
                    f"{rows.every} processes or parts share a batch of {total}, and one of them has no row for the "
                    f"term {term.name}, which has {count}: take a larger batch"
                )
            of_term = rows.of(count, offset)
            yield slice(start, start + len(of_term)), of_term
            if not whole:
                start, offset = start + len(of_term), offset + count

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{term.name}: {term.share:g}' for term in self.terms)})"


def measure(flow: FlowMap, terms: Sequence[Term], pairs: Sequence[Pair]) -> Loss:
    """The sum of the terms' losses on what each has drawn. This is the function to compile: curricula have chosen the
    terms outside of it, so that it is the same program at every step.
    """
    value = pairs[0].x0.new_zeros(())
    losses: dict[str, TermLoss] = {}
    for term, pair in zip(terms, pairs, strict=True):
        for name, loss in term.losses(flow, pair).items():
            first = next(iter(losses.values()), loss)
            factor = term.balance[name](first, loss, flow) if name in term.balance else 1.0
            value = value + term.share * factor * loss.value
            losses[_numbered(name, losses)] = loss
    return Loss(value, losses)


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


def _condition(condition: Tensor | Mapping[str, Any] | None, batch: int) -> dict[str, Any]:
    known = by_name(condition)
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


def _checked(x0: Tensor, noise: Tensor | None, rows: Rows) -> Rows:
    """The rows with their total known, once data and noise are checked."""
    if not isinstance(x0, Tensor) or x0.ndim < 2 or not x0.is_floating_point():
        got = f"{x0.dtype} of shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else type(x0).__name__
        raise ValueError(f"x0 must be a batch of floating-point data, (B, ...), got {got}")
    if noise is not None and noise.shape != x0.shape:
        raise ValueError(f"noise must have the shape of x0, {tuple(x0.shape)}, got {tuple(noise.shape)}")
    return rows.of_batch(len(x0))
