"""A recipe: all that a training run is made of but the data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.changes import Change, changed
from ..flow_map import FlowMap
from ..guidance import FromPairs, guided
from ..method.method import Method
from ..methods import LANDSCAPE, Row
from ..methods.papers import Paper
from ..outputs import Output, average_velocity
from ..path import Path, linear
from ..training.config import Precision, TrainConfig, among
from ..training.schedule import constant
from .planned import Step


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run at the size of a paper; a value, so `dataclasses.replace` makes another one of it.

    - data: what to give it, in words; shape of one x_0; classes, None for a network that is told none
    - network: (shape, *, classes, **sizes) -> a network; output and path of the flow map around it
    - method: a function of `methods`, its arguments bound
    - guidance: what a method without a teacher learns from, in the place of the velocity of pairs (`guidance.guided`)
    - change: what happens to each training batch (`data.changes`)
    - steps, batch_size (of all processes), lr, schedule, ema, clip, precision: as for `train`
    - optimizer: called with (weights, lr=lr); None: the AdamW of `train`
    - teacher, start: the recipe whose run a distillation learns from, and whose weights this one starts with
    - small: sizes of the network with which `reduced` tries the code path
    - paper, where: what the settings are from; published: what the paper reached with them; differs: what is not as
      there
    """

    name: str
    data: str
    shape: tuple[int, int, int]
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
    change: tuple[Change, ...] = ()
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    schedule: Callable[[float], float] = constant
    ema: float = 0.9999
    clip: float | None = TrainConfig.clip
    precision: Precision = TrainConfig.precision
    guidance: FromPairs | None = None
    teacher: str | None = None
    start: str | None = None

    @property
    def row(self) -> Row:
        """The method's row of the landscape."""
        bare = self.method.func if isinstance(self.method, functools.partial) else self.method
        return next(row for row in LANDSCAPE if row.build is bare)

    @property
    def checkpoint(self) -> bool:
        """Whether the blocks of the network keep their inputs alone."""
        return bool(getattr(self.network, "keywords", {}).get("checkpoint"))

    @property
    def command(self) -> str:
        """Of flowmaps; DATA is yours."""
        begin = (
            f" --teacher runs/{self.teacher}" if self.teacher else f" --start runs/{self.start}" if self.start else ""
        )
        return f"train DATA --recipe {self.name}{begin}{' --checkpoint' if self.checkpoint else ''}"

    @property
    def source(self) -> str:
        """The paper."""
        return self.paper.short

    @property
    def said(self) -> dict[str, str]:
        """Where it is from, in words."""
        return {"settings": self.where, "published": self.published or "nothing", "differs": self.differs}

    def flow(self) -> FlowMap:
        """The flow map with new weights, a partial one where the method learns no other."""
        network = self.network(self.shape, classes=self.classes)
        ends: dict[str, Any] = {"only_source": self.row.only_source, "only_target": self.row.only_target}
        return FlowMap(network, self.output, self.path, **ends)

    def build(self, teacher: Any = None) -> Method:
        """The method. Raises ValueError where it needs a teacher and has none, or the other way round."""
        if self.row.needs_teacher != (teacher is not None):
            needs = f"a teacher, a run of {self.teacher}" if self.row.needs_teacher else "no teacher"
            raise ValueError(f"{self.name} trains by {self.row.name} and needs {needs}")
        return self.make() if teacher is None else self.make(teacher=teacher)

    def make(self, **arguments: Any) -> Method:
        """The method with more arguments bound, and with the recipe's guidance."""
        method = self.method(**arguments)
        return method if self.guidance is None or self.row.needs_teacher else guided(method, self.guidance)

    def step(self, rows: int) -> Callable[[], Step]:
        """A function that makes a step of so many rows, with new weights, for a plan."""

        def made() -> Step:
            teacher = self.flow().unlimited().eval() if self.row.needs_teacher else None
            label = None if self.classes is None else torch.zeros(rows, dtype=torch.int64)
            return Step(self.flow().train(), self.build(teacher), torch.zeros(rows, *self.shape), label)

        return made

    def parts(self) -> list[tuple[int, Recipe]]:
        """Itself: it is planned as a whole."""
        return [(1, self)]

    def by(self, row: Row, **arguments: Any) -> Recipe:
        """The same run by another method, unguided, or by its own with other arguments."""
        other = self if row is self.row else replace(self, method=row.build, guidance=None)
        return replace(other, method=functools.partial(other.method, **arguments))

    def listed(self) -> dict[str, Any]:
        """All of its settings, for JSON."""
        same = ("name", "data", "shape", "classes", "steps", "batch_size", "lr", "ema", "precision", "teacher", "start")
        told = {name: getattr(self, name) for name in (*same, "where", "published", "differs")}
        return {**told, "method": self.row.name, "paper": self.paper.short}

    def prepare(self, data: Data) -> Data:
        """The data as steps see them. Raises ValueError for data of another shape, with no or too many classes."""
        if data.shape != self.shape:
            raise ValueError(f"{self.name} needs {self.data}: rows of {self.shape}, but {data.name} has {data.shape}")
        if self.classes is not None and not (data.classes and data.classes <= self.classes):
            got = "no labels" if data.classes is None else f"{data.classes} classes"
            raise ValueError(f"{self.name} needs labels of at most {self.classes} classes, and {data.name} has {got}")
        return changed(data, *self.change) if self.change else data

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `train`:  train(recipe.flow(), recipe.build(), recipe.prepare(data), **settings)."""
        optimizer = None if self.optimizer is None else functools.partial(self.optimizer, lr=self.lr)
        return among(self) | {"optimizer": optimizer}

    def checkpointed(self) -> Recipe:
        """The same run with a network whose blocks keep their inputs alone for the backward pass, which computes the
        rest again.
        """
        return replace(self, network=functools.partial(self.network, checkpoint=True))

    def reduced(self) -> Recipe:
        """The same run with a small network and three steps of eight rows: every part of it is tried, nothing is
        learned.
        """
        network = functools.partial(self.network, **self.small)
        return replace(self, name=f"{self.name}-reduced", network=network, steps=3, batch_size=8)
