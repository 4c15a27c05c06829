"""Networks that write into their own weights while they train, as the normalised layers of EDM2 do."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..derivative import rewound
from ..flow_map import FlowMap
from ..path import expand_frames
from ..velocity import Averaged, Companion
from ..velocity.copies import copy_weights, pairs

CHANGED = "modified by an inplace operation"
"""Words of torch's error about a weight that was written between its use and the gradient."""
ROWS = 2
"""Rows of the call in which a network writes."""


class OwnWrites:
    """Let a network write into its weights once before each loss, and keep the writing layers from it inside.

    A loss calls a network several times. A weight that is written between two calls has no gradient any more, and a
    copy of the network, such as an averaged target, would change its weights. The layers that write are found at the
    first step: if the code of a layer has operations in place, a call of the network in training mode shows which
    weights changed. Before each step they are in
    training mode for one call on a few rows, and in evaluation mode in the loss. All other layers keep their mode.

    Args:
        flow: The flow map in training.
        method: The `Method`, with its companions.
        off: Whether to do nothing.
    """

    def __init__(self, flow: FlowMap, method: Any, off: bool = False) -> None:
        self.flow, self.method = flow, method
        self.layers: tuple[str, ...] | None = () if off else None
        self._call: Callable[[], Any] = lambda: None

    @contextmanager
    def once(self, x0: Tensor, condition: Any, progress: float, fresh: bool | None = None) -> Iterator[None]:
        """Let the network write, then keep its layers from writing until the context ends.

        Args:
            x0: Rows of the batch.
            condition: Their condition, as for `Method.loss`.
            progress: Share of training that is done, in [0, 1].
            fresh: Whether no step was taken yet, so that averaged targets start from the written weights. None: if
                they equal the weights.
        """
        if self.layers is None:
            fresh = self._averages_are_fresh() if fresh is None and self._may_write() else fresh
            self._find(x0, condition, progress)
            if self.layers and fresh:
                self._restart_averages()
        elif self.layers:
            self._write()
        if not self.layers:
            yield
            return
        parts = [part.network for part in self.method.modules() if isinstance(part, Companion)]
        for network in parts:
            if network is not None:
                self._set(network, False)
        self._set(self.flow.network, False)
        try:
            yield
        finally:
            self._set(self.flow.network, True)

    def _find(self, x0: Tensor, condition: Any, progress: float) -> None:
        """Find the layers that write, by one call on the rows of the first term."""
        network, self.layers = self.flow.network, ()
        if not self._may_write():
            return
        before = [weight._version for weight in network.parameters()]
        buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
        said = set(self.flow._said)
        try:
            with rewound(x0.device), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # training gives them too
                self._first_call(x0, condition, progress)
        except Exception:  # whatever the network or the method refuses, the training step says it
            return
        finally:
            self.flow._said.intersection_update(said)
            names = [name for name, _ in network.named_parameters()]
            now = [weight._version for weight in network.parameters()]
            changed = [name for name, old, new in zip(names, before, now, strict=True) if old != new]
            if not changed:
                with torch.no_grad():
                    for buffer, value in buffers:
                        buffer.copy_(value)
        self.layers = tuple(dict.fromkeys(name.rpartition(".")[0] for name in changed))
        if self.layers and self._writes_in_evaluation():
            warnings.warn(
                f"the network writes into its weights {changed[0]} at each call, also in evaluation mode, so averaged "
                "weights and targets change when they are used: write only in training mode, `if self.training:`",
                stacklevel=2,
            )

    def _first_call(self, x0: Tensor, condition: Any, progress: float) -> None:
        term = self.method.now(progress)[0]
        pair = term.couple(self.method.draw(self.flow, x0, condition, progress=progress)[0])
        bound, s, t = self.flow.given(**pair.condition), pair.s, pair.t
        flow, x = bound.unlimited(), term.start(bound, pair, s)
        few = {
            key: value[:ROWS] if isinstance(value, Tensor) and value.shape[:1] == s.shape[:1] else value
            for key, value in pair.condition.items()
        }
        x_few, s_few, t_few = x[:ROWS].clone(), s[:ROWS].clone(), t[:ROWS].clone()
        of_few = self.flow.given(**few).unlimited()
        self._call = lambda: of_few.average_velocity(x_few, expand_frames(s_few, x_few), expand_frames(t_few, x_few))
        flow.average_velocity(x, expand_frames(s, x), expand_frames(t, x))

    @torch.no_grad()
    def _write(self) -> None:
        """Let the layers write; random numbers and the buffers of other layers stay as they are."""
        network = self.flow.network
        self._set(network, True)
        own = {id(buffer) for name in self.layers or () for buffer in network.get_submodule(name).buffers()}
        others = [(buffer, buffer.clone()) for buffer in network.buffers() if id(buffer) not in own]
        with rewound(self.flow.like.device):
            self._call()
        for buffer, value in others:
            buffer.copy_(value)

    @torch.no_grad()
    def _writes_in_evaluation(self) -> bool:
        network = self.flow.network
        self._set(network, False)
        before = [weight._version for weight in network.parameters()]
        with rewound(self.flow.like.device):
            self._call()
        self._set(network, True)
        return before != [weight._version for weight in network.parameters()]

    def _may_write(self) -> bool:
        return any(_may_write(kind) for kind in {type(module) for module in self.flow.network.modules()})

    def _averages(self) -> Iterator[nn.Module]:
        for part in self.method.modules():
            if isinstance(part, Averaged) and part.network is not None:
                yield part.network

    def _averages_are_fresh(self) -> bool:
        return all(torch.equal(a, b) for network in self._averages() for a, b in pairs(network, self.flow.network))

    def _restart_averages(self) -> None:
        for network in self._averages():
            copy_weights(network, self.flow.network)

    def _set(self, network: nn.Module, training: bool) -> None:
        """Set the mode of the layers that write, in the network or in a copy of it."""
        layers = dict(network.named_modules())
        for name in self.layers or ():
            if name in layers:
                layers[name].training = training


def _may_write(kind: type) -> bool:
    """Whether the code of a class, without torch's own, names an operation in place or `data`, except to initialise."""
    functions = [
        inspect.unwrap(member)
        for owner in kind.__mro__
        if owner.__module__.split(".")[0] not in ("torch", "builtins")
        for name, member in vars(owner).items()
        if name != "__init__" and callable(member)
    ]
    names = [name for one in functions for name in getattr(getattr(one, "__code__", None), "co_names", ())]
    return any(name == "data" or (name[-1:] == "_" and name[-2:] != "__") for name in names)


def explain(error: Exception) -> None:
    """Raise the error of torch about a written tensor as a sentence; do nothing for any other error.

    Args:
        error: The error of a step.

    Raises:
        RuntimeError: If it is this error.
    """
    if CHANGED in str(error):
        reason = str(error).partition(CHANGED)[2].partition(";")[0].strip(": ")
        raise RuntimeError(
            f"the network writes into a tensor that its gradient needs ({reason}): compute a new tensor instead, and "
            "write into weights in training mode alone, `if self.training:`, as EDM2 does"
        ) from error
