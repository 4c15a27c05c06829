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
from ..flow_map import FlowMap, Output, average_velocity
from ..method import Method
from ..methods import LANDSCAPE, Row
from ..methods.papers import Paper
from ..path import Path, linear
from ..training.plan import Precision
from ..training.schedule import constant


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run at the size of a paper; a value, so `dataclasses.replace` makes another one of it.

    - data: what to give it, in words; shape of one x_0; classes, None for a network that is told none
    - network: (shape, *, classes, **sizes) -> a network; output and path of the flow map around it
    - method: a function of `methods`, its arguments bound
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
    clip: float | None = None
    precision: Precision = "no"
    teacher: str | None = None
    start: str | None = None

    @property
    def row(self) -> Row:
        """The method's row of the landscape."""
        bare = self.method.func if isinstance(self.method, functools.partial) else self.method
        return next(row for row in LANDSCAPE if row.build is bare)

    def flow(self) -> FlowMap:
        """The flow map with new weights, a partial one where the method learns no other."""
        network = self.network(self.shape, classes=self.classes)
        ends = {"only_source": self.row.only_source, "only_target": self.row.only_target}
        return FlowMap(network, self.output, self.path, **ends)

    def build(self, teacher: Any = None) -> Method:
        """The method. Raises ValueError where it needs a teacher and has none, or the other way round."""
        if self.row.needs_teacher != (teacher is not None):
            needs = f"a teacher, a run of {self.teacher}" if self.row.needs_teacher else "no teacher"
            raise ValueError(f"{self.name} trains by {self.row.name} and needs {needs}")
        return self.method() if teacher is None else self.method(teacher=teacher)

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
        same = ("steps", "batch_size", "lr", "schedule", "ema", "clip", "precision")
        optimizer = None if self.optimizer is None else functools.partial(self.optimizer, lr=self.lr)
        return {"optimizer": optimizer, **{name: getattr(self, name) for name in same}}

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
