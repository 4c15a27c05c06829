"""The compiled loss (torch.compile), with the uncompiled one as a fallback."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch._dynamo.utils import counters

from ..flow_map import FlowMap
from ..method.method import Loss, measure
from ..method.term import Term
from ..velocity import Pair

Measure = Callable[[FlowMap, Sequence[Term], Sequence[Pair]], Loss]
"""The signature of `flowmaps.method.measure`."""

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
COMPILER = ("torch._dynamo", "torch._inductor")
"""Modules of the exceptions of torch's compiler."""
BACKENDS = ("torch._dynamo.backends", "torch._inductor", "torch._functorch._aot_autograd")
"""Modules whose frames in a traceback show that the compiler raised an error."""


class Compiled:
    """The function `flowmaps.method.measure`, compiled at its first call, or uncompiled if that is impossible.

    It stays uncompiled, with one warning that gives the reason, if the compiler fails, or if the network has dropout,
    because rules need the same masks in two passes. Pass errors of a step to `give_up`, because the compiler may also
    fail in the backward pass. If the loss is compiled in several pieces, one warning names the first reason.

    Args:
        function: The function to compile.
    """

    def __init__(self, function: Measure = measure) -> None:
        self.function = function
        self._active: Measure = torch.compile(function)
        self._checked = self._warned = False

    def __call__(self, flow: FlowMap, terms: Sequence[Term], pairs: Sequence[Pair]) -> Loss:
        """Compute the loss, as `flowmaps.method.measure`."""
        if not self._checked:
            self._checked = True
            if (name := dropout(flow)) is not None:
                self._stop_compiling(f"the network has dropout ({name}), whose masks a compiled loss cannot draw twice")
        if self._active is self.function:
            return self.function(flow, terms, pairs)
        before, graphs = dict(counters["graph_break"]), counters["stats"]["unique_graphs"]
        with _derivatives_inside():
            loss = self._active(flow, terms, pairs)
        reasons = [reason for reason, count in counters["graph_break"].items() if count > before.get(reason, 0)]
        if reasons and not self._warned:
            self._warned = True
            pieces = counters["stats"]["unique_graphs"] - graphs
            warnings.warn(f"the loss is compiled in {pieces} pieces: {_first_line(reasons[0])}", stacklevel=2)
        return loss

    def give_up(self, error: Exception) -> bool:
        """Stop compiling if the compiler raised this error, in the loss or in its backward pass.

        Args:
            error: An error of a step.

        Returns:
            Whether the compiler raised it, so that the step can be repeated without compiling. A GPU without memory is
            no reason: the uncompiled loss needs more of it.
        """
        if self._active is self.function or isinstance(error, torch.OutOfMemoryError) or not from_compiler(error):
            return False
        self._stop_compiling(_first_line(str(error)) or type(error).__name__)
        return True

    def _stop_compiling(self, reason: str) -> None:
        """Use the uncompiled function from now on, with a warning."""
        warnings.warn(f"the loss cannot be compiled, training goes on without: {reason}", stacklevel=3)
        self._active = self.function


def dropout(flow: FlowMap) -> str | None:
    """The name of the first active dropout layer of the network, or None."""
    return next((name for name, layer in flow.network.named_modules() if isinstance(layer, DROPOUT) and layer.p), None)


def from_compiler(error: BaseException) -> bool:
    """Whether torch's compiler raised an error, rather than the compiled program."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return type(error).__module__.startswith(COMPILER) or any(name.startswith(BACKENDS) for name in frames)


def _derivatives_inside() -> AbstractContextManager[object]:
    """Trace gradients that a loss computes into its graph, if this version of torch can (context manager)."""
    config = torch._dynamo.config
    return config.patch(trace_autograd_ops=True) if hasattr(config, "trace_autograd_ops") else nullcontext()


def _first_line(text: str) -> str:
    """Return the first line of a text, together with the second one if the first ends with a colon."""
    first, *more = text.strip().split("\n")
    return f"{first} {more[0]}" if first.endswith(":") and more else first
