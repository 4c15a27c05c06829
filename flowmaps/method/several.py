"""A method made of several, where one of them computes each loss: the base of stages and turns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import nn

from ..arguments import shown
from ..flow_map import FlowMap
from ..velocity import Companion, Pair
from .method import Loss, Method
from .term import Term


class Several(Method):
    """Methods that take the steps of one run, one at a time.

    Args:
        parts: Pairs (share, method). Shares are relative numbers of steps.
        name: Name of the method.

    Attributes:
        shares: The share of each method, (0, 1].

    Raises:
        TypeError: A part is no pair (share, method).
        ValueError: There is no part.
    """

    kind: str
    """The word for a part, in errors."""

    def __init__(self, parts: Sequence[tuple[float, Method]], name: str) -> None:
        if not parts:
            raise ValueError(f"{type(self).__name__} needs at least one (share, method)")
        for part in parts:
            if not isinstance(part, tuple | list) or len(part) != 2 or not isinstance(part[1], Method):
                raise TypeError(f"a {self.kind} is (share, method), such as (0.5, fm.methods.imf()), got {shown(part)}")
        nn.Module.__init__(self)
        self.name = name
        self.terms = tuple(term for _, method in parts for term in method.terms)
        self.hidden = tuple(dict.fromkeys(name for _, method in parts for name in method.hidden))

    @property
    @abstractmethod
    def methods(self) -> tuple[Method, ...]:
        """The methods in order."""

    @property
    @abstractmethod
    def shares(self) -> tuple[float, ...]:
        """The share of the steps of each method; their sum is 1."""

    @abstractmethod
    def at(self, progress: float) -> tuple[int, float]:
        """Return the number of the method whose step it is, counted from 0, and its progress."""

    @abstractmethod
    def each(self, change: Callable[[Method], Method], name: str) -> Self:
        """Return the same with other methods.

        Args:
            change: Function from a method to another one.
            name: Name of the new method.
        """

    def method(self, number: int) -> Method:
        """Return a method by its number, counted from 0."""
        return self.methods[number]

    def begin(self, flow: FlowMap) -> None:
        """Reset the companions of all methods."""
        for method in self.methods:
            method.begin(flow)

    def draw(self, flow: FlowMap, *batch: Any, progress: float = 0.0, **options: Any) -> tuple[Pair, ...]:
        """Draw for the method whose step it is; arguments as for `Method.draw`."""
        now, inner = self.at(progress)
        return self.method(now).draw(flow, *batch, progress=inner, **options)

    def now(self, progress: float) -> tuple[Term, ...]:
        """Return the terms of the method whose step it is."""
        number, inner = self.at(progress)
        return self.method(number).now(inner)

    def observe(self, loss: Loss, progress: float = 0.0) -> None:
        """Show the losses of a step to the companions of the method that took it."""
        number, inner = self.at(progress)
        self.method(number).observe(loss, inner)

    def make(self, flow: FlowMap) -> bool:
        """Create the companions of all methods. Returns False in a compiled call, which creates nothing."""
        if torch.compiler.is_compiling():
            return False
        for part in self.modules():
            if isinstance(part, Companion):
                part.make(flow)
        return True

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.methods))})"
