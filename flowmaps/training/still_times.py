"""Detection of a network that has no derivative in a time, although its value depends on it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..derivative import jvp, rewound
from ..flow_map import FlowMap
from ..forward_mode import Dual, primal
from ..method.method import Method

STEPS = 1, 2, 4, 8, 16, 32, 64
"""Steps after which a network is examined, until it is known: one that starts at zero depends on nothing at first."""
HALF = 0.02
"""Half the distance of the two times between which the values of a network are compared."""
ROWS = 8
"""Rows of an examination."""


class StillTimes:
    """Watch in which times training differentiates a network, and warn once of a time without a derivative.

    A network that turns a time into an index, such as `table[(1000 * s).long()]`, is constant between two indices. Its
    derivative is zero, and a rule that differentiates it learns a wrong map. An examination is a call of the network on
    a few rows, in evaluation mode. It leaves random numbers and buffers alone.

    Args:
        flow: The flow map in training.
        off: Whether to do nothing.
    """

    def __init__(self, flow: FlowMap, off: bool = False) -> None:
        self.flow, self.network = flow, flow.network
        self._seen: dict[str, _Call] = {}
        self._known: set[str] = {"s", "t"} if off else set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the times in which calls of the network are differentiated, until both are known."""
        if len(self._known) == 2:
            yield
            return
        hook = self.network.register_forward_pre_hook(self._note, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def watch_uncompiled(self, method: Method, x0: Tensor, condition: Any) -> None:
        """Note the same of a loss that will be compiled, by an uncompiled one on a few rows, at both ends of training.

        Args:
            method: The method.
            x0: The rows.
            condition: Their condition, as for `Method.loss`.
        """
        if self._known:
            return
        with rewound(x0.device), self.watching(), _untouched(self.network):  # a compiled loss gives no warnings
            for progress in (0.0, 1.0):
                method.measure(self.flow, method.draw(self.flow, x0, condition, progress=progress), progress)

    def _note(self, network: nn.Module, args: Any, condition: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or len(args) != 3:
            return
        x, s, t = args
        for name, time in (("s", s), ("t", t)):
            if (
                name not in self._known
                and name not in self._seen
                and (isinstance(time, Dual) or torch._C._functorch.is_gradtrackingtensor(time))
            ):
                self._seen[name] = _Call(x, time, condition)

    def examine(self) -> None:
        """Examine the network after a step, if a time is differentiated and nothing is known of it."""
        still = []
        for name, call in list(self._seen.items()):
            call.steps += 1
            found = call.is_smooth(self.network, name) if call.steps in STEPS else None
            if found is not None or call.steps == STEPS[-1]:
                self._known.add(name)
                del self._seen[name]
            if found is False:
                still.append(name)
        if still:
            warnings.warn(
                f"the network depends on the time {' and '.join(still)}, but its derivative there is exactly zero, so "
                "this method learns a wrong map: the network may round the time, or use it as an index, such as (1000 "
                "* s).long(). Embed the time by smooth functions (fm.networks.Fourier), or take "
                "derivative=fm.derivative.finite_difference()",
                stacklevel=2,
            )


class _Call:
    """The shape and the condition of a call of a network, for a call on a few rows at times of its own."""

    def __init__(self, x: Any, time: Any, condition: dict[str, Any]) -> None:
        rows = x.shape[0]
        self.shape, self.dtype, self.device = (min(rows, ROWS), *x.shape[1:]), x.dtype, x.device
        self.of_times, self.steps = time.dtype, 0
        whole = {key: primal(value) for key, value in condition.items()}
        self.condition = {
            key: value[:ROWS].detach().clone() if isinstance(value, Tensor) and value.shape[:1] == (rows,) else value
            for key, value in whole.items()
        }

    @torch.no_grad()
    def is_smooth(self, network: nn.Module, name: str) -> bool | None:
        """Whether the network has a derivative in a time; None if its value does not depend on it, or is unknown."""
        x = torch.randn(self.shape, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        ends, moves = ((0.9, 0.6), (0.4, 0.1)), (name == "s", name == "t")
        times = [torch.linspace(*pair, len(x), dtype=self.of_times, device=self.device) for pair in ends]

        def at(offset: float) -> Tensor:
            with rewound(x.device):
                return network(
                    x, *(time + offset * move for time, move in zip(times, moves, strict=True)), **self.condition
                )

        with rewound(x.device), _untouched(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training gives them too
            try:
                _, d = jvp(lambda x, s, t: network(x, s, t, **self.condition), (x, *times), (0, *map(int, moves)))
                return True if d.any() else None if torch.equal(at(HALF), at(-HALF)) else False
            except (TypeError, ValueError, RuntimeError, NotImplementedError):
                return None  # training itself says why a network cannot be differentiated


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    """Keep a network in evaluation mode, and restore the modes of its parts and its buffers at the end."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        for module, _ in modes:
            module.training = False  # eval() of some modules changes their weights
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
