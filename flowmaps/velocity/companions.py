"""Companions: velocity sources with weights of their own, kept by the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least, finite, shown
from ..flow_map import FlowMap
from ..networks.heads import TimeCritic
from ..times.samplers import phase_of
from .copies import copied, copy_weights, trainable_copy
from .sources import Fixed, Pair

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Function from weights to an optimizer."""


class Companion(nn.Module):
    """Velocity source with its own weights, created from the flow and updated by `Method.follow`."""

    network: nn.Module | None

    def make(self, flow: FlowMap) -> None:
        """Create the network unless it exists: a copy of the flow's that shares its frozen weights."""
        if self.network is None:
            self.network = copied(flow.weights)

    def restart(self, flow: FlowMap) -> None:
        """Start a new run: replace the network by a copy of the flow's."""
        self.network = None
        self.make(flow)

    def begin(self, flow: FlowMap) -> None:
        """Restart from the current flow; called at the beginning of the companion's stage."""

    def follow(self, flow: FlowMap, progress: float, moved: bool | None = None) -> None:
        """Update the weights; called before every loss.

        Args:
            flow: The flow map in training.
            progress: Share of training that is done, in [0, 1].
            moved: Whether the flow's weights have changed since the last call. None: unknown.
        """

    def observe(self, loss: Any) -> None:
        """Read the losses of a step; called after it, without a graph.

        Args:
            loss: The `TermLoss` of the companion's term.
        """


class Averaged(Companion):
    """Velocity source: the flow with averaged weights, w* <- decay w* + (1 - decay) w after each change of the weights.

    Args:
        decay: A number in [0, 1), or a function of the progress in [0, 1] that gives one.

    Raises:
        ValueError: The decay is outside [0, 1).

    This average is a *target* of the loss, unlike the average for evaluation (`TrainConfig.ema`).
    """

    def __init__(self, decay: float | Callable[[float], float]) -> None:
        super().__init__()
        if not callable(decay):
            finite(decay=decay)
        if not callable(decay) and not 0 <= decay < 1:
            raise ValueError(f"the decay of a target average must lie in [0, 1), got {decay}")
        self.decay = decay
        self.network: nn.Module | None = None
        self._followed: tuple[nn.Module, Tensor | None] | None = None

    def make(self, flow: FlowMap) -> None:
        """Create the network unless it exists: a frozen copy of the flow's."""
        if self.network is None:
            super().make(flow)
            assert self.network is not None
            self.network.requires_grad_(False)
            self._remember(flow, _norms(flow.weights))

    def begin(self, flow: FlowMap) -> None:
        """Restart from the current flow."""
        copy_weights(_network_of(self), flow.weights)
        self._remember(flow, None)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Create the average at the first call, then update it whenever the flow's weights have changed.

        Args:
            flow: The flow map in training.
            progress: Share of training that is done, in [0, 1].
            moved: Whether the weights have changed since the last call. None: their norms are compared, which waits for
                the device.
        """
        if self._followed is not None and self._followed[0] is not flow.network:
            self.network = None
        self.make(flow)
        before, norms = self._followed, _norms(flow.weights) if moved is None else None
        self._remember(flow, norms)
        if norms is not None:
            moved = before is None or before[1] is None or not torch.equal(before[1], norms)
        if moved:
            decay = self.decay(progress) if callable(self.decay) else self.decay
            copy_weights(_network_of(self), flow.weights, 1 - decay)

    def _remember(self, flow: FlowMap, norms: Tensor | None) -> None:
        object.__setattr__(self, "_followed", (flow.network, norms))  # not registered as a submodule

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._followed = None  # a checkpoint is written after a step, before the average is updated

    def forward(self, flow: FlowMap, pair: Pair) -> FlowMap:
        """Flow map with the averaged weights."""
        return flow.around(_network_of(self))


def _norms(network: nn.Module) -> Tensor:
    """Compute the norms of the trained weights, to detect changes; fused optimizers keep version counters unchanged."""
    weights = [weight.detach() for weight in network.parameters() if weight.requires_grad]
    return torch.stack(torch._foreach_norm(weights)) if weights else torch.zeros(1)


def _network_of(companion: Companion) -> nn.Module:
    assert companion.network is not None, "Method.follow creates the networks before the loss binds the sources"
    return companion.network


def averaged(decay: float | Callable[[float], float]) -> Averaged:
    """Velocity source: the flow with averaged weights, see `Averaged`."""
    return Averaged(decay)


class Phased(Companion):
    """Velocity source of progressive methods: a given teacher at first, then the flow at the end of the previous phase.

    Args:
        first: Teacher of the first phase.
        phases: Number of equal parts of training.

    Raises:
        ValueError: The number of phases is less than 1.

    The phase and the weights of its teacher are in the state dict of the method, so a resumed run continues with the
    same teacher.
    """

    phase: Tensor

    def __init__(self, first: Fixed, phases: int) -> None:
        super().__init__()
        at_least(1, phases=phases)
        self.first, self.phases = first, phases
        self.network: nn.Module | None = None
        self.register_buffer("phase", torch.zeros((), dtype=torch.long))
        self._now = 0  # the same number, read without waiting for the device
        self._replaced = False  # the only value that the loss reads: one compiled program for all later phases

    def make(self, flow: FlowMap) -> None:
        """Create the network unless it exists: a frozen copy of the flow's."""
        super().make(flow)
        _network_of(self).requires_grad_(False)

    def restart(self, flow: FlowMap) -> None:
        """Start a new run in the first phase."""
        super().restart(flow)
        self._enter(0)

    def begin(self, flow: FlowMap) -> None:
        """Start in the first phase."""
        self._enter(0)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Make the flow the teacher at the beginning of each later phase."""
        self.make(flow)
        now = phase_of(progress, self.phases)
        if now > self._now:
            copy_weights(_network_of(self), flow.network)
            self._enter(now)

    def _enter(self, phase: int) -> None:
        self.phase.fill_(phase)
        self._now, self._replaced = phase, phase > 0

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._now, self._replaced = int(self.phase), bool(self.phase)

    def forward(self, flow: FlowMap, pair: Pair) -> Any:
        """Teacher of the current phase."""
        return flow.around(_network_of(self)) if self._replaced else self.first(flow, pair)


class Auxiliary(Companion):
    """Velocity source: a second flow map, trained along with the flow by a separate optimiser.

    Args:
        start: FlowMap to start from; its output and path are used too. None: a copy of the flow, created at the first
            `follow`, which a training loop calls before it creates optimisers. Frozen weights stay frozen and are
            shared; if every weight is frozen, all are copied and made trainable.
        optimizer: Function from weights to an optimizer. None: one like the flow's.

    Its losses must stop gradients to the flow, and the flow's losses must stop gradients to it: then one backward pass
    serves both.
    """

    def __init__(self, start: FlowMap | None = None, optimizer: MakeOptimizer | None = None) -> None:
        super().__init__()
        if start is not None and not isinstance(start, FlowMap):
            raise TypeError(f"an auxiliary network starts from a FlowMap, got {shown(start)}")
        self.network = None if start is None else trainable_copy(start.weights)
        self.optimizer = optimizer
        self._start: FlowMap | None
        object.__setattr__(self, "_start", start)  # not a submodule: only its output and path are used

    def restart(self, flow: FlowMap) -> None:
        """Start a new run from a copy of `start`, or of the flow."""
        self.network = None if self._start is None else trainable_copy(self._start.weights)
        self.make(flow)

    def begin(self, flow: FlowMap) -> None:
        """Restart from the current flow, unless `start` was given."""
        if self._start is None:
            copy_weights(_network_of(self), flow.weights)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Create the network unless it exists; its own optimiser updates it."""
        self.make(flow)

    def forward(self, flow: FlowMap, pair: Pair) -> Any:
        """Second flow map, bound to the condition."""
        start = self._start
        like = flow if start is None else start.given(**pair.condition)
        return like.around(_network_of(self)).unlimited()  # it computes velocities, even if the flow is partial


class Discriminator(Auxiliary):
    """Network that distinguishes data from samples, trained by a separate optimiser.

    Args:
        network: Called as network(x, **condition) or network(x, t, **condition), as the rule does, -> logits (B,) or
            (B, n). None: a copy of the flow's network as a critic (`networks.TimeCritic`), created at the first
            `follow`.
        optimizer: Function from weights to an optimizer. None: one like the flow's.

    Raises:
        TypeError: The network is no module.
    """

    def __init__(self, network: nn.Module | None = None, optimizer: MakeOptimizer | None = None) -> None:
        super().__init__(None, optimizer)
        if network is not None and not isinstance(network, nn.Module):
            raise TypeError(f"a discriminator is a network x -> logits, got {shown(network)}")
        self.network, self._given = network, network is not None

    def make(self, flow: FlowMap) -> None:
        """Create the network unless it exists: a critic made of a trainable copy of the flow's."""
        if self.network is None:
            self.network = TimeCritic(trainable_copy(flow.network))

    def restart(self, flow: FlowMap) -> None:
        """Start a new run: keep a given network, and replace a copy of the flow's by another one."""
        if not self._given:
            self.network = None
        self.make(flow)

    def begin(self, flow: FlowMap) -> None:
        """Keep the network: only the beginning of a run makes another copy of the flow's."""

    def forward(self, flow: FlowMap, pair: Pair) -> Any:
        """The network."""
        return _network_of(self)
