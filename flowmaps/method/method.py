"""A method: terms that share a batch, and the loss that is their weighted sum.

    loss = sum over terms of  share * mean over its rows of  weight(rule(flow, teacher, x_s, s, t), s, t)

Each term gets its own rows of the batch; no term sees all rows under a mask. The expectation is the same, and each row
is computed once.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import brief, shown, within
from ..draws import Rows, normal
from ..flow_map import FlowMap, expect_flow
from ..path import Time
from ..sampling import rows_of
from ..velocity import Auxiliary, Companion, Pair
from .batch import checked_condition, checked_rows, checked_times, split_batch
from .own_writes import OwnWrites
from .term import Term, TermLoss
from .wrapped import refuse_unreduced, refuse_wrapped


@dataclass(frozen=True)
class Loss:
    """The loss of a method on a batch.

    Attributes:
        value: Scalar to call backward() on.
        terms: Loss of each term, by name.
    """

    value: Tensor
    terms: dict[str, TermLoss]

    def __repr__(self) -> str:
        parts = "".join(f", {name}={brief(term.value)}" for name, term in self.terms.items())
        return f"Loss({brief(self.value)}{parts})"


class Method(nn.Module):
    """A learning method: one or more terms, whose loss is `method.loss(flow, x0)`.

    It is a module because learned loss weights and averaged targets have parameters: optimise `method.parameters()`
    together with the flow's.

    Args:
        *terms: The terms.
        name: Name of the method.

    Attributes:
        terms: The terms, with distinct names: a second `compositional` becomes `compositional_2`.
        parts: Modules among the velocity sources and weights of the terms.
        hidden: Names of the conditions of a batch that its rules read and the network does not get.
        trains_flow: Whether the flow map is trained, and not only networks beside it.

    Raises:
        ValueError: There is no term.
    """

    _own_writes: OwnWrites | None = None
    hidden: tuple[str, ...] = ()
    trains_flow: bool = True

    def __init__(self, *terms: Term, name: str = "method") -> None:
        super().__init__()
        if not terms:
            raise ValueError("a method needs at least one term")
        if wrong := [term for term in terms if not isinstance(term, Term)]:
            raise TypeError(f"a method is made of terms, Term(rule, velocity, ...), got {shown(wrong[0])}")
        self.name = name
        self.terms = _named(terms)
        self.parts = nn.ModuleList(dict.fromkeys(part for term in terms for part in term.parts))

    @property
    def data_free(self) -> bool:
        """Whether no term reads data. Then only the shape, dtype and device of x0 are used."""
        return not any(term.reads_data for term in self.terms)

    @property
    def auxiliaries(self) -> list[Auxiliary]:
        """Networks trained along with the flow by optimisers of their own."""
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
        """Compute the loss on a batch: `follow`, `draw` and `measure`, within `writing_once`.

        Args:
            flow: The flow map in training.
            x0: Data (B, ...), floating-point.
            condition: Keyword arguments of the network besides x, s and t, as a dict; tensors are 0-d or have B rows. A
                tensor stands for {"label": tensor}. None: no condition.
            noise: Noise eps of the shape of x0. None: standard normal.
            times: Times (s, t), numbers, (B,) or per frame, instead of the samplers of the terms. Every term then sees
                the whole batch.
            progress: Share of training that is done, in [0, 1], for curricula.
            rows: Rows of a larger batch that x0 holds, if processes or accumulated parts share it.

        Returns:
            The loss.

        Raises:
            TypeError: Data, noise, times or the flow map are of another type.
            ValueError: Invalid data, noise, times or conditions (type, shape, number of rows, times outside [0, 1]), a
                batch with fewer rows than terms, or a call that `FlowMap` refuses.
            RuntimeError: Several processes train, and the gradients of this loss would not be averaged over them.
        """
        refuse_wrapped(flow)
        expect_flow(flow)
        within(0, 1, progress=progress)
        with self.writing_once(flow, x0, condition, progress):
            self.follow(flow, progress)
            if rows.every == 1:
                refuse_unreduced(flow, self)
            pairs = self.draw(flow, x0, condition, noise=noise, times=times, progress=progress, rows=rows)
            loss = self.measure(flow, pairs, progress)
            self.observe(loss, progress)
            return loss

    def writing_once(
        self,
        flow: FlowMap,
        x0: Tensor,
        condition: Tensor | Mapping[str, Any] | None = None,
        progress: float = 0.0,
    ) -> AbstractContextManager[None]:
        """Let a network that writes into its own weights in training write once, before a loss in this context.

        `loss` does it. Do it yourself around `follow`, `draw` and a compiled loss. It does nothing for other networks,
        and nothing in evaluation mode.

        Args:
            flow: The flow map in training.
            x0: Data (B, ...), as for `loss`.
            condition: Their condition, as for `loss`.
            progress: Share of training that is done, in [0, 1].

        Returns:
            A context manager, in which the layers that write are in evaluation mode.
        """
        if torch.compiler.is_compiling() or not getattr(flow.network, "training", False):
            return nullcontext()
        if self._own_writes is None or self._own_writes.flow.network is not flow.network:
            self._own_writes = OwnWrites(flow, self)
        return self._own_writes.once(x0, condition, progress)

    def __getstate__(self) -> dict[str, Any]:
        """The attributes of a copy, without the record of layers that write into their weights."""
        return {name: value for name, value in self.__dict__.items() if name != "_own_writes"}

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
        """Draw everything random of a step: noise, times and the random numbers of the rules.

        It has the arguments and errors of `loss`.

        Returns:
            One pair for each term, with the term's rows of the batch.
        """
        rows = checked_rows(x0, noise, rows)
        flow.path.expect("x0", x0)
        eps = rows.draw(normal, x0) if noise is None else noise
        conditions = checked_condition(condition, len(x0))
        given = None if times is None else checked_times(times, x0)
        terms = self.now(progress)
        pairs = []
        for term, (part, of_term) in zip(terms, split_batch(self.terms, rows, whole=given is not None), strict=True):
            own = {key: rows_of(value, part) for key, value in conditions.items()}
            pairs.append(term.draw(Pair(x0[part], eps[part], flow.path, own, rows=of_term), progress, given))
        return tuple(pairs)

    def measure(self, flow: FlowMap, pairs: Sequence[Pair], progress: float = 0.0) -> Loss:
        """Compute the loss on drawn pairs. It is deterministic, except for random layers of the network (dropout)."""
        return measure(flow, self.now(progress), pairs)

    def now(self, progress: float) -> tuple[Term, ...]:
        """Return the terms at a share `progress` of training, in [0, 1]."""
        return tuple(term.at(progress) for term in self.terms)

    def forward(
        self, flow: FlowMap, x0: Tensor, condition: Tensor | Mapping[str, Any] | None = None, **options: Any
    ) -> Loss:
        """Compute `loss`."""
        return self.loss(flow, x0, condition, **options)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Create or update the companions: averaged targets, auxiliary networks, phased teachers.

        `loss` calls it. Call it yourself before a compiled loss, and before optimisers are made.

        Args:
            flow: The flow map in training.
            progress: Share of training that is done, in [0, 1].
            moved: Whether the flow's weights have changed since the last call. None: their norms are compared.
        """
        if not torch.compiler.is_compiling():
            for part in self.parts:
                if isinstance(part, Companion):
                    part.follow(flow, progress, moved)

    def observe(self, loss: Loss, progress: float = 0.0) -> None:
        """Show the losses of a step to the companions, such as a learned clock. `loss` and `train` call it.

        Args:
            loss: The loss of the step, of all parts of the batch on this process.
            progress: Share of training that is done, in [0, 1].
        """
        for term in self.now(progress):
            for part in term.parts:
                if isinstance(part, Companion) and term.name in loss.terms:
                    part.observe(loss.terms[term.name])

    def begin(self, flow: FlowMap) -> None:
        """Reset the companions before the first step of a run."""
        for part in self.modules():
            if isinstance(part, Companion):
                part.restart(flow)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{term.name}: {term.share:g}' for term in self.terms)})"


def measure(flow: FlowMap, terms: Sequence[Term], pairs: Sequence[Pair]) -> Loss:
    """Sum the losses of terms on their drawn pairs; the function to compile.

    Curricula choose the terms before the call, so the compiled program is the same at every step.

    Args:
        flow: The flow map in training.
        terms: The terms of the current step, `method.now(progress)`.
        pairs: The pair of each term, `method.draw(...)`.

    Returns:
        The loss.
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


def _named(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Make the names of terms distinct: a second `compositional` becomes `compositional_2`."""
    named: dict[str, Term] = {}
    for term in terms:
        name = _numbered(term.name, named)
        named[name] = term if name == term.name else replace(term, name=name)
    return tuple(named.values())


def _numbered(name: str, taken: Container[str]) -> str:
    """Return the name if it is free, else the first free one of name_2, name_3, ..."""
    new, count = name, 1
    while new in taken:
        count += 1
        new = f"{name}_{count}"
    return new
