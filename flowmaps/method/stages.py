"""Stages of a run: a method that trains by several methods, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import finite
from ..flow_map import FlowMap
from ..velocity import Companion
from .method import Method
from .several import Several


class Stages(Several):
    """Methods one after another, each for a share of training: Stages((0.3, cmt(teacher)), (0.7, meanflow())).

    Each stage sees its own progress from 0 to 1, so its curricula and phases fit into it. The companions of all stages
    (averaged targets, auxiliary networks) are created together, and restart from the flow when their stage begins. The
    stage is part of the state dict, so a resumed run continues in its stage.

    Args:
        *stages: Pairs (share, method). Shares are relative.
        name: Name of the method.

    Attributes:
        stages: The method of each stage.
        ends: Progress at the end of each stage.
        stage: The current stage, counted from 0.

    Raises:
        ValueError: There is no stage, or a share is not positive.
    """

    kind = "stage"
    stage: Tensor

    def __init__(self, *stages: tuple[float, Method], name: str = "stages") -> None:
        super().__init__(stages, name)
        for share, _ in stages:
            finite(share=share)
            if not share > 0:
                raise ValueError(f"the share of a stage must be positive, got {share}")
        self.stages = nn.ModuleList(method for _, method in stages)
        total = sum(share for share, _ in stages)
        self.ends = [sum(share for share, _ in stages[: k + 1]) / total for k in range(len(stages))]
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self._now = 0  # the same number, read without waiting for the device

    @property
    def methods(self) -> tuple[Method, ...]:
        """The method of each stage."""
        return tuple(self.stages)  # type: ignore[arg-type]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of training of each stage; their sum is 1."""
        return tuple(end - start for start, end in zip([0.0, *self.ends], self.ends, strict=False))

    def method(self, stage: int) -> Method:
        """Return the method of a stage."""
        return super().method(stage)

    def at(self, progress: float) -> tuple[int, float]:
        """Return the stage at `progress`, counted from 0, and the progress within it."""
        now = next((k for k, end in enumerate(self.ends) if progress < end - 1e-9), len(self.ends) - 1)
        start = self.ends[now - 1] if now else 0.0
        return now, min(1.0, max(0.0, (progress - start) / (self.ends[now] - start)))

    def each(self, change: Callable[[Method], Method], name: str) -> Stages:
        """Return stages of the same shares with other methods."""
        return Stages(*zip(self.shares, map(change, self.methods), strict=True), name=name)

    def begin(self, flow: FlowMap) -> None:
        """Reset the companions and go to the first stage."""
        super().begin(flow)
        self._enter(0)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Create all companions, restart the ones of a new stage, and update the ones of the current stage."""
        if not self.make(flow):
            return
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
