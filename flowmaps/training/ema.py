"""Averaged weights for evaluation and sampling; no loss depends on them."""

from __future__ import annotations

import torch

from ..flow_map import FlowMap
from ..velocity.copies import copied, pairs


class Average:
    """Exponential moving average of the weights, with a smaller decay at first.

    The update is w* <- d w* + (1 - d) w with d = min(decay, (1 + k)/(10 + k)) at the k-th update. Frozen weights are
    shared with the flow map; buffers are copied.

    Args:
        flow: The flow map in training.
        decay: Largest decay d, in [0, 1).

    Attributes:
        flow: A copy of the flow map with the averaged weights, in evaluation mode and without gradients.
        updates: Number of updates so far.

    Raises:
        ValueError: If the decay is outside [0, 1).
    """

    def __init__(self, flow: FlowMap, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the weight average must lie in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self.flow = copied(flow).eval().requires_grad_(False)
        moved = list(pairs(self.flow, flow))
        self._mine, self._theirs = [mine for mine, _ in moved], [theirs for _, theirs in moved]
        self._buffers, self._their_buffers = (list(f.buffers()) for f in (self.flow, flow))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights of the flow."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        if self._mine:  # torch._foreach functions refuse empty lists
            torch._foreach_lerp_(self._mine, self._theirs, 1 - decay)
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._their_buffers)
        self.updates += 1
