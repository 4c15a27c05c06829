"""The interface of recipes that can be planned, and their common parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from ..flow_map import FlowMap
from ..method.method import Method
from ..methods import Row
from ..training.config import Precision


class TrainingStep(NamedTuple):
    """The parts of one training step.

    Args:
        flow: The flow map in training.
        method: Its method.
        x0: Rows (B, *shape).
        condition: Condition, as for `Method.draw`.
    """

    flow: FlowMap
    method: Method
    x0: Tensor
    condition: Tensor | Mapping[str, Tensor] | None


P = TypeVar("P", bound="Planned")


class Planned(Protocol):
    """A training run that can be planned before it is started; `dataclasses.replace` makes a variant."""

    @property
    def name(self) -> str:
        """Name of the recipe."""

    @property
    def data(self) -> str:
        """Description of the data to give it."""

    @property
    def steps(self) -> int:
        """Number of training steps."""

    @property
    def batch_size(self) -> int:
        """Number of rows of a batch, over all processes."""

    @property
    def lr(self) -> float:
        """Learning rate."""

    @property
    def precision(self) -> Precision:
        """Precision of training: "no" or "bf16"."""

    @property
    def row(self) -> Row:
        """The method's row of the landscape."""

    @property
    def checkpoint(self) -> bool:
        """Whether the layers store their inputs alone for the backward pass (activation checkpointing)."""

    @property
    def command(self) -> str:
        """The command line, without launcher or output options."""

    @property
    def source(self) -> str:
        """Origin of the recipe, in short."""

    @property
    def about(self) -> Mapping[str, str]:
        """Remarks on the recipe, by topic."""

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `train`."""

    def listed(self) -> dict[str, Any]:
        """All settings, for JSON."""

    def checkpointed(self: P) -> P:
        """The same run with activation checkpointing."""

    def by(self: P, row: Row, **arguments: Any) -> P:
        """The same run by another method, or by its own with other arguments."""

    def step(self, rows: int) -> Callable[[], TrainingStep]:
        """Prepare a training step of this number of rows.

        Computations on real numbers happen now; the returned function is called with tensors without memory.
        """

    def parts(self: P) -> Sequence[tuple[int, P]]:
        """Smaller runs with factors; their costs times the factors add up to the cost of this run.

        This is the run itself, or, if its network has many equal layers, runs of networks with a few.
        """
