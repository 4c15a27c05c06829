"""Sources with weights of their own, which the method keeps beside the flow's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..flow_map import FlowMap
from ..times.samplers import phase_of
from .copies import copied, copy_weights, trainable_copy
from .sources import Fixed, Pair

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class Companion(nn.Module):
    """A source with weights of its own beside the flow's: made once the flow is known, moved by `Method.follow`."""

    network: nn.Module | None

    def make(self, flow: FlowMap) -> None:
        """Make the network, a copy of the flow's, where there is none yet: of its frozen weights there is one copy."""
        if self.network is None:
            self.network = copied(flow.network)

    def restart(self, flow: FlowMap) -> None:
        """For a new run: forget another one's flow."""
        self.network = None
        self.make(flow)

    def begin(self, flow: FlowMap) -> None:
        """Start from the flow as it is now: called when the stage begins that this belongs to."""

    def follow(self, flow: FlowMap, progress: float, moved: bool | None = None) -> None:
        """Called before every loss. moved: whether the flow's weights have changed since the last call, where it is
        known.
        """


class Averaged(Companion):
    """The flow with averaged weights: w* <- decay w* + (1 - decay) w, moved by `follow` once after each change of the
    weights.

    This is a *target* of the loss; it has nothing to do with the average that is kept for evaluation, nor with a
    teacher's. `decay` is a number in [0, 1), or a function of the progress in [0, 1] that gives one.
    """

    def __init__(self, decay: float | Callable[[float], float]) -> None:
        super().__init__()
        if not callable(decay) and not 0 <= decay < 1:
            raise ValueError(f"the decay of a target average must lie in [0, 1), got {decay}")
        self.decay = decay
        self.network: nn.Module | None = None
        self._followed: tuple[nn.Module, Tensor | None] | None = None

    def make(self, flow: FlowMap) -> None:
        if self.network is None:
            super().make(flow)
            assert self.network is not None
            self.network.requires_grad_(False)
            self._remember(flow, _norms(flow.network))

    def begin(self, flow: FlowMap) -> None:
        copy_weights(_made(self), flow.network)
        self._remember(flow, None)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        """Start as a copy of the flow's network, then move towards it whenever its weights have changed since the last
        call: where nobody says whether they have, their norms tell, for which the device has to be waited for.
        """
        if self._followed is not None and self._followed[0] is not flow.network:
            self.network = None
        self.make(flow)
        before, norms = self._followed, _norms(flow.network) if moved is None else None
        self._remember(flow, norms)
        if norms is not None:
            moved = before is None or before[1] is None or not torch.equal(before[1], norms)
        if moved:
            decay = self.decay(progress) if callable(self.decay) else self.decay
            copy_weights(_made(self), flow.network, 1 - decay)

    def _remember(self, flow: FlowMap, norms: Tensor | None) -> None:
        object.__setattr__(self, "_followed", (flow.network, norms))  # not a module of this one

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._followed = None  # a checkpoint is written after a step: its weights are still to be followed

    def forward(self, flow: FlowMap, pair: Pair) -> FlowMap:
        return flow.around(_made(self))


def _norms(network: nn.Module) -> Tensor:
    """What tells that weights have changed: version counters would not do, as fused optimizers leave them alone."""
    weights = [weight.detach() for weight in network.parameters() if weight.requires_grad]
    return torch.stack(torch._foreach_norm(weights)) if weights else torch.zeros(1)


def _made(companion: Companion) -> nn.Module:
    assert companion.network is not None, "Method.loss follows the flow before it binds the sources"
    return companion.network


def averaged(decay: float | Callable[[float], float]) -> Averaged:
    """An average of the flow's weights over its own training: see `Averaged`."""
    return Averaged(decay)


class Phased(Companion):
    """The teacher of progressive methods: `first` in the first of `phases` equal parts of training, and in each later
    one the flow as it was when the part before ended.

    The phase and the weights of the flow back then are part of the method's state dict, so a run that stops goes on
    with the same teacher. ValueError for fewer than one phase.
    """

    phase: Tensor

    def __init__(self, first: Fixed, phases: int) -> None:
        super().__init__()
        if phases < 1:
            raise ValueError(f"a progressive method needs at least one phase, got {phases}")
        self.first, self.phases = first, phases
        self.network: nn.Module | None = None
        self.register_buffer("phase", torch.zeros((), dtype=torch.long))
        self._now = 0  # the same number, to read without waiting for the device
        self._replaced = False  # all that a loss asks, so that a compiled one is the same in all later phases

    def make(self, flow: FlowMap) -> None:
        super().make(flow)
        _made(self).requires_grad_(False)

    def restart(self, flow: FlowMap) -> None:
        super().restart(flow)
        self._enter(0)

    def begin(self, flow: FlowMap) -> None:
        self._enter(0)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        self.make(flow)
        now = phase_of(progress, self.phases)
        if now > self._now:
            copy_weights(_made(self), flow.network)
            self._enter(now)

    def _enter(self, phase: int) -> None:
        self.phase.fill_(phase)
        self._now, self._replaced = phase, phase > 0

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._now, self._replaced = int(self.phase), bool(self.phase)

    def forward(self, flow: FlowMap, pair: Pair) -> Any:
        return flow.around(_made(self)) if self._replaced else self.first(flow, pair)


class Auxiliary(Companion):
    """A second flow map beside the flow, bound as live weights, trained by an optimiser of its own.

    start: a FlowMap to start from (its output and path are taken over); None: a copy of the flow, made at the first
    `follow`, which a training loop calls before it makes its optimisers. Weights that are frozen there stay frozen and
    are shared; of a start that is frozen as a whole all are copied and trained. optimizer: from weights to an
    optimizer; None: one like the flow's. Its losses must stop the flow, and the flow's losses must stop it: then one
    backward pass serves both.
    """

    def __init__(self, start: FlowMap | None = None, optimizer: MakeOptimizer | None = None) -> None:
        super().__init__()
        self.network = None if start is None else trainable_copy(start.network)
        self.optimizer = optimizer
        self._start: FlowMap | None
        object.__setattr__(self, "_start", start)  # not a module of this one: only its output and path are used

    def restart(self, flow: FlowMap) -> None:
        self.network = None if self._start is None else trainable_copy(self._start.network)
        self.make(flow)

    def begin(self, flow: FlowMap) -> None:
        if self._start is None:
            copy_weights(_made(self), flow.network)

    def follow(self, flow: FlowMap, progress: float = 0.0, moved: bool | None = None) -> None:
        self.make(flow)

    def forward(self, flow: FlowMap, pair: Pair) -> Any:
        start = self._start
        like = flow if start is None else start.given(**pair.condition)
        return like.around(_made(self)).unlimited()  # it is asked for velocities, whatever the flow knows


class Discriminator(Auxiliary):
    """A network (x, **condition) -> (B,) or (B, 1) of logits that tells data from samples, with its own optimiser."""

    def __init__(self, network: nn.Module, optimizer: MakeOptimizer | None = None) -> None:
        super().__init__(None, optimizer)
        self.network = network

    def restart(self, flow: FlowMap) -> None:
        """It is no copy of the flow."""

    def begin(self, flow: FlowMap) -> None:
        """It is no copy of the flow."""

    def forward(self, flow: FlowMap, pair: Pair) -> Any:
        return _made(self)
