"""What a plan asks of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from ..flow_map import FlowMap
from ..method.method import Method
from ..methods import Row
from ..training.config import Precision


class Step(NamedTuple):
    """What a training step is made of: the condition is what `Method.draw` takes."""

    flow: FlowMap
    method: Method
    x0: Tensor
    condition: Tensor | Mapping[str, Tensor] | None


P = TypeVar("P", bound="Planned")


class Planned(Protocol):
    """A run that can be planned before it is started; `dataclasses.replace` makes another one of it."""

    @property
    def name(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def row(self) -> Row: ...

    @property
    def checkpoint(self) -> bool:
        """Whether the layers of the network keep their inputs alone for the backward pass."""

    @property
    def command(self) -> str:
        """Of flowmaps, that trains it, without what is said of processes and folders."""

    @property
    def source(self) -> str:
        """What it is from, in short."""

    @property
    def said(self) -> Mapping[str, str]:
        """What is to be known of it besides, in words."""

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `train`."""

    def listed(self) -> dict[str, Any]:
        """All of its settings, for JSON."""

    def checkpointed(self: P) -> P:
        """The same run with a network that keeps less and computes it again."""

    def by(self: P, row: Row, **arguments: Any) -> P:
        """The same run by another method, or by its own with other arguments."""

    def step(self, rows: int) -> Callable[[], Step]:
        """A function that makes a step of so many rows, called where tensors have no memory; what needs numbers is made
        before.
        """

    def parts(self: P) -> Sequence[tuple[int, P]]:
        """Smaller runs whose costs, so many times each, add up to that of this one: itself, or where its network has
        many equal layers, networks of a few.
        """
