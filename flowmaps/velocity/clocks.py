"""A clock that is learned from the losses of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..arguments import positive, within
from ..times import TableClock, Times, stratified_diagonal
from ..times.grids import expect_grid, uniform_grid
from .companions import Companion


class LearnedClock(Companion):
    """Sampler of times whose density follows the slope of a loss in time, so that the loss rises evenly on its clock.

    Args:
        edges: Ascending times from 0 to 1, the edges of the bins. None: 100 bins of equal width. On a path whose noise
            level grows fast give narrow bins where the loss rises.
        times: Sampler of numbers on the clock; by default stratified, on the diagonal.
        decay: Decay of the averages, for each step.
        floor: Share of the density that each bin has at least, before it is normalised.

    Raises:
        TypeError: The edges are no tensor.
        ValueError: The edges are not ascending from 0 to 1, or a number is out of range.

    Give it as the `times` of a `Term`. After each step it observes the loss of this term by row, such as a
    cross-entropy, and averages it in bins of the source time. The averages, made monotone, are the
    clock G(t), and t = G^-1(u). Until it has seen losses, all bins are drawn equally often. The averages are in the
    state dict of the method. This is the time warping of CDCD (Dieleman et al. 2022, arXiv 2211.15089), without a loss
    of its own.
    """

    edges: Tensor
    counts: Tensor
    losses: Tensor

    def __init__(
        self,
        edges: Tensor | None = None,
        times: Times = stratified_diagonal(),
        decay: float = 0.99,
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        edges = uniform_grid(100) if edges is None else edges
        expect_grid(edges)
        if float(edges[0]) != 0 or float(edges[-1]) != 1:
            raise ValueError(
                f"the bins of a clock go from time 0 to 1, got {float(edges[0]):g} to {float(edges[-1]):g}"
            )
        within(0, 1, decay=decay)
        positive(floor=floor)
        self.times, self.decay, self.floor = times, decay, floor
        self.network = None
        self.register_buffer("edges", edges.float())
        self.register_buffer("counts", torch.zeros(len(edges) - 1))
        self.register_buffer("losses", torch.zeros(len(edges) - 1))

    def make(self, flow: Any) -> None:
        """Do nothing: a clock has no network."""

    def restart(self, flow: Any) -> None:
        """Forget all losses."""
        self.counts.zero_()
        self.losses.zero_()

    @torch.no_grad()
    def observe(self, loss: Any) -> None:
        """Average the losses of a step in the bins of their source times.

        Args:
            loss: The `TermLoss`, with one number for each row, or several, whose sum counts.
        """
        s, rows = loss.s.to(self.edges).contiguous(), loss.residual.detach().flatten(1).sum(1).to(self.edges)
        bins = torch.bucketize(s, self.edges[1:-1].contiguous(), right=True)
        found = self.counts.new_zeros(2, len(self.counts))
        found = loss.rows.mean(found.index_add(1, bins, torch.stack([torch.ones_like(rows), rows])))
        self.counts.mul_(self.decay).add_(found[0])
        self.losses.mul_(self.decay).add_(found[1])

    def clock(self) -> TableClock:
        """The clock of the losses so far."""
        seen, index = self.counts > 0, torch.arange(len(self.counts), device=self.counts.device)
        mean = self.losses / self.counts.clamp(min=torch.finfo(self.counts.dtype).tiny)
        # an empty bin has the mean of the bin before it, or of the first bin with losses
        before = torch.where(seen, index, torch.zeros_like(index)).cummax(0).values
        mean = mean[torch.maximum(before, seen.int().argmax())]
        rising = (mean.cummax(0).values + mean.flip(0).cummin(0).values.flip(0)) / 2
        at_edges = torch.cat([rising[:1], (rising[1:] + rising[:-1]) / 2, rising[-1:]])
        slope = at_edges.diff()
        density = slope / slope.sum().clamp(min=torch.finfo(slope.dtype).tiny) + self.floor
        u = torch.cat([density.new_zeros(1), density.cumsum(0)])
        return TableClock(u / u[-1], self.edges)

    def forward(self, n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """Draw n pairs of times, as any sampler of times."""
        s, t = self.times(n, progress, like)
        clock = self.clock()
        return clock(s), clock(t)

    def __repr__(self) -> str:
        return f"LearnedClock({len(self.counts)} bins)"
