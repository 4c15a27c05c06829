"""Turns: methods that take the steps of a run alternately, such as a critic and a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least
from ..flow_map import FlowMap
from ..velocity import Companion
from .method import Loss, Method
from .several import Several


class Turns(Several):
    """Methods in cycles of steps: Turns((5, critic), (1, generator)) trains the critic five times, the generator once.

    A step of training is one turn, so this cycle has six. Only the networks with a gradient move: an optimizer without
    any makes no step. The turn is part of the state dict, so a run resumes inside a cycle with the same numbers. All
    methods see the progress of the whole training.

    Args:
        *turns: Pairs (number of steps, method), in order.
        name: Name of the method.

    Attributes:
        turns: The method of each turn.
        counts: Number of steps of each turn.
        step: Number of the next step in the cycle, counted from 0.

    Raises:
        TypeError: A turn is no pair of a whole number and a method.
        ValueError: There is no turn, or a number is below 1; or a method has stages or turns of its own. Turns may be
            the method of a stage.
    """

    kind = "turn"
    step: Tensor

    def __init__(self, *turns: tuple[int, Method], name: str = "turns") -> None:
        super().__init__(turns, name)
        for count, method in turns:
            at_least(1, turn=count)
            if isinstance(method, Several):
                raise ValueError(f"a turn is one method, and {method.name} has several: turns can be a stage instead")
        self.turns = nn.ModuleList(method for _, method in turns)
        self.counts = tuple(count for count, _ in turns)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self._now = 0  # the same number, read without waiting for the device

    @property
    def methods(self) -> tuple[Method, ...]:
        """The method of each turn."""
        return tuple(self.turns)  # type: ignore[arg-type]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the steps of each method; their sum is 1."""
        return tuple(count / sum(self.counts) for count in self.counts)

    def at(self, progress: float) -> tuple[int, float]:
        """Return the number of the method whose turn it is, and the progress of training."""
        owners = [number for number, count in enumerate(self.counts) for _ in range(count)]
        return owners[self._now], progress

    def each(self, change: Callable[[Method], Method], name: str) -> Turns:
        """Return the same cycle with other methods."""
        return Turns(*zip(self.counts, map(change, self.methods), strict=True), name=name)

    def begin(self, flow: FlowMap) -> None:
        """Reset the companions and go to the beginning of a cycle."""
        super().begin(flow)
        self._enter(0)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Create and update the companions of all methods, each once."""
        if self.make(flow):
            for part in self.modules():
                if isinstance(part, Companion):
                    part.follow(flow, progress, moved)

    def observe(self, loss: Loss, progress: float = 0.0) -> None:
        """Show the losses of a step to the companions of the method that took it, and give the turn to the next."""
        super().observe(loss, progress)
        self._enter((self._now + 1) % sum(self.counts))

    def _enter(self, step: int) -> None:
        self.step.fill_(step)
        self._now = step

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._now = int(self.step)
