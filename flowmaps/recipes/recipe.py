"""The recipe of a training run: all settings except the data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.transforms import Transform, transformed
from ..flow_map import FlowMap
from ..guidance import FromPairs, guided
from ..method.method import Method
from ..methods import Row
from ..methods.papers import Paper
from ..outputs import Output, average_velocity
from ..path import Path, linear
from ..sequences import teacher_forced
from ..training.config import Precision, TrainConfig, among
from ..training.schedule import constant
from .planned import TrainingStep
from .rows import row_of, unbound
from .sequences import PAST_NOISE


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run at the size of a paper; `dataclasses.replace` makes a variant.

    Args:
        name: Name of the recipe.
        data: Description of the data to give it.
        shape: Shape of one x_0.
        classes: Number of classes. None: the network takes no labels.
        network: Function (shape, *, classes, **sizes) -> network.
        method: A method of `methods`, or a partial of one.
        steps: Number of training steps.
        batch_size: Number of rows of a batch, over all processes.
        lr: Learning rate.
        paper: The paper.
        where: Origin of the settings.
        differs: Differences to the paper.
        small: Sizes of the network for `reduced`.
        published: Result of the paper with these settings.
        output: Output of the flow map.
        path: Path of the flow map.
        change: Transforms of training batches (`data.transforms`).
        optimizer: Function (weights, lr=lr) -> optimizer. None: the AdamW of `train`.
        schedule: Learning rate schedule, from progress to a factor.
        ema: Decay of the average of the weights.
        clip: Largest gradient norm. None: no clipping.
        precision: "no" or "bf16".
        guidance: Guided velocity that replaces the velocity of pairs in methods without a teacher
            (`guidance.guided`). None: no guidance.
        repeats: Noise draws of a frame, for a head on a backbone. None: rows are no sequences.
        teacher: Recipe of the teacher of a distillation. None: no teacher.
        start: Recipe of the run to start from. None: new weights.
    """

    name: str
    data: str
    shape: tuple[int, ...]
    classes: int | None
    network: Callable[..., nn.Module]
    method: Callable[..., Method]
    steps: int
    batch_size: int
    lr: float
    paper: Paper
    where: str
    differs: str
    small: Mapping[str, Any]
    published: str = ""
    output: Output = average_velocity
    path: Path = linear
    change: tuple[Transform, ...] = ()
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    schedule: Callable[[float], float] = constant
    ema: float = 0.9999
    clip: float | None = TrainConfig.clip
    precision: Precision = TrainConfig.precision
    guidance: FromPairs | None = None
    repeats: int | None = None
    teacher: str | None = None
    start: str | None = None

    @property
    def row(self) -> Row:
        """The method's row of the landscape."""
        return row_of(unbound(self.method))

    @property
    def checkpoint(self) -> bool:
        """Whether the blocks of the network store their inputs alone for the backward pass."""
        return bool(getattr(self.network, "keywords", {}).get("checkpoint"))

    @property
    def command(self) -> str:
        """The command line, without launcher or output options; replace DATA."""
        begin = (
            f" --teacher runs/{self.teacher}" if self.teacher else f" --start runs/{self.start}" if self.start else ""
        )
        return f"train DATA --recipe {self.name}{begin}{' --checkpoint' if self.checkpoint else ''}"

    @property
    def source(self) -> str:
        """The paper, in short."""
        return self.paper.short

    @property
    def about(self) -> dict[str, str]:
        """Origin of the settings, published result, and differences to the paper."""
        return {"settings": self.where, "published": self.published or "nothing", "differs": self.differs}

    def flow(self) -> FlowMap:
        """Make the flow map with new weights; a partial one if the method learns only that."""
        network = self.network(self.shape, classes=self.classes)
        ends: dict[str, Any] = {"only_source": self.row.only_source, "only_target": self.row.only_target}
        return FlowMap(network, self.output, self.path, **ends)

    def build(self, teacher: Any = None) -> Method:
        """Make the method.

        Args:
            teacher: The teacher of a distillation. None: the method needs none.

        Returns:
            The method, guided if the recipe has guidance.

        Raises:
            ValueError: The teacher is missing, or the method takes none.
        """
        if self.row.needs_teacher != (teacher is not None):
            needs = f"a teacher, a run of {self.teacher}" if self.row.needs_teacher else "no teacher"
            raise ValueError(f"{self.name} trains by {self.row.name} and needs {needs}")
        return self.make() if teacher is None else self.make(teacher=teacher)

    def make(self, **arguments: Any) -> Method:
        """Make the method with further arguments and with the recipe's guidance."""
        method = self.method(**arguments)
        if self.repeats is not None:
            method = teacher_forced(method, self.repeats, PAST_NOISE)
        return method if self.guidance is None or self.row.needs_teacher else guided(method, self.guidance)

    def step(self, rows: int) -> Callable[[], TrainingStep]:
        """Prepare a training step with new weights, for a plan."""

        def made() -> TrainingStep:
            teacher = self.flow().unlimited().eval() if self.row.needs_teacher else None
            label = None if self.classes is None else torch.zeros(rows, dtype=torch.int64)
            return TrainingStep(self.flow().train(), self.build(teacher), torch.zeros(rows, *self.shape), label)

        return made

    def parts(self) -> list[tuple[int, Recipe]]:
        """The run itself: it is planned as a whole."""
        return [(1, self)]

    def by(self, row: Row, **arguments: Any) -> Recipe:
        """The same run by another method, unguided, or by its own with other arguments."""
        other = self if row == self.row else replace(self, method=row.build, guidance=None)
        return replace(other, method=functools.partial(other.method, **arguments))

    def listed(self) -> dict[str, Any]:
        """All settings, for JSON."""
        same = ("name", "data", "shape", "classes", "steps", "batch_size", "lr", "ema", "precision", "teacher", "start")
        known = {name: getattr(self, name) for name in (*same, "where", "published", "differs")}
        return {**known, "method": self.row.name, "paper": self.paper.short}

    def prepare(self, data: Data) -> Data:
        """Check the data and add the transforms. Raises ValueError for another shape, or no or too many classes."""
        if data.shape != self.shape:
            raise ValueError(f"{self.name} needs {self.data}: rows of {self.shape}, but {data.name} has {data.shape}")
        if self.classes is not None and not (data.classes and data.classes <= self.classes):
            got = "no labels" if data.classes is None else f"{data.classes} classes"
            raise ValueError(f"{self.name} needs labels of at most {self.classes} classes, and {data.name} has {got}")
        return transformed(data, *self.change) if self.change else data

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `train(recipe.flow(), recipe.build(), recipe.prepare(data), **settings)`."""
        optimizer = None if self.optimizer is None else functools.partial(self.optimizer, lr=self.lr)
        return among(self) | {"optimizer": optimizer}

    def checkpointed(self) -> Recipe:
        """The same run with activation checkpointing: blocks store their inputs and are computed again."""
        return replace(self, network=functools.partial(self.network, checkpoint=True))

    def reduced(self) -> Recipe:
        """The same run with a small network and three steps of eight rows, to try its code path."""
        network = functools.partial(self.network, **self.small)
        return replace(self, name=f"{self.name}-reduced", network=network, steps=3, batch_size=8)
