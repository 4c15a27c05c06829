"""Stages of one run: a method that is one method after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..flow_map import FlowMap
from ..velocity import Companion, Pair
from .method import Method
from .term import Term


class Stages(Method):
    """Methods one after another, each for its share of training:  Stages((0.3, cmt(teacher)), (0.7, meanflow())).

    A stage sees its own progress from 0 to 1, so its curricula and phases fit into it. What has weights beside the flow
    is made for all stages at once, and starts from the flow again when its stage begins; the stage is part of the state
    dict, so a run that stops goes on within it. Shares are relative. ValueError without stages, or for a share that is
    not positive.
    """

    stage: Tensor

    def __init__(self, *stages: tuple[float, Method], name: str = "stages") -> None:
        if not stages:
            raise ValueError("Stages needs at least one (share, method)")
        bad = [share for share, _ in stages if not share > 0]
        if bad:
            raise ValueError(f"the share of a stage must be positive, got {bad[0]}")
        nn.Module.__init__(self)
        self.name = name
        self.terms = tuple(term for _, method in stages for term in method.terms)
        self.stages = nn.ModuleList(method for _, method in stages)
        total = sum(share for share, _ in stages)
        self.ends = [sum(share for share, _ in stages[: k + 1]) / total for k in range(len(stages))]
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self._now = 0  # the same number, to read without waiting for the device

    def at(self, progress: float) -> tuple[int, float]:
        """The stage, from 0, and the progress within it."""
        now = next((k for k, end in enumerate(self.ends) if progress < end - 1e-9), len(self.ends) - 1)
        start = self.ends[now - 1] if now else 0.0
        return now, min(1.0, max(0.0, (progress - start) / (self.ends[now] - start)))

    def draw(self, flow: FlowMap, *batch: Any, progress: float = 0.0, **options: Any) -> tuple[Pair, ...]:
        """For the stage at `progress`; arguments as for `Method.loss`."""
        now, inner = self.at(progress)
        return self.method(now).draw(flow, *batch, progress=inner, **options)

    def now(self, progress: float) -> tuple[Term, ...]:
        """The terms of the stage at `progress`."""
        stage, inner = self.at(progress)
        return self.method(stage).now(inner)

    def begin(self, flow: FlowMap) -> None:
        super().begin(flow)
        self._enter(0)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Make all companions, begin those of a stage that begins, move those of the current one."""
        if torch.compiler.is_compiling():
            return
        for part in self.modules():
            if isinstance(part, Companion):
                part.make(flow)
        now, inner = self.at(progress)
        if now > self._now:
            self._enter(now)
            for part in self.method(now).modules():
                if isinstance(part, Companion):
                    part.begin(flow)
        self.method(now).follow(flow, inner, moved)

    def _enter(self, stage: int) -> None:
        self.stage.fill_(stage)
        self._now = stage

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._now = int(self.stage)

    def method(self, stage: int) -> Method:
        """The method of a stage."""
        found = self.stages[stage]
        assert isinstance(found, Method)
        return found

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.stages))})"
