"""The loss under torch.compile, or without it where that cannot be done."""

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

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
COMPILER = ("torch._dynamo", "torch._inductor")
BACKENDS = ("torch._dynamo.backends", "torch._inductor", "torch._functorch._aot_autograd")


class Compiled:
    """`flowmaps.method.measure`, compiled when it is first called; the function itself where that cannot be done.

    A warning says so once, with the reason: where compiling fails (in the backward pass too, so a step that fails asks
    `give_up`), and where the network has dropout, of which several rules need the same masks in two passes. Another one
    names the first reason where the loss is compiled in several pieces.
    """

    def __init__(self, function: Measure = measure) -> None:
        self.function = function
        self._now: Measure = torch.compile(function)
        self._checked = self._told = False

    def __call__(self, flow: FlowMap, terms: Sequence[Term], pairs: Sequence[Pair]) -> Loss:
        if not self._checked:
            self._checked = True
            if (name := dropout(flow)) is not None:
                self._without(f"the network has dropout ({name}), whose masks a compiled loss cannot draw twice")
        if self._now is self.function:
            return self.function(flow, terms, pairs)
        before, graphs = dict(counters["graph_break"]), counters["stats"]["unique_graphs"]
        with _derivatives_inside():
            loss = self._now(flow, terms, pairs)
        reasons = [reason for reason, count in counters["graph_break"].items() if count > before.get(reason, 0)]
        if reasons and not self._told:
            self._told = True
            pieces = counters["stats"]["unique_graphs"] - graphs
            warnings.warn(f"the loss is compiled in {pieces} pieces: {_first_line(reasons[0])}", stacklevel=2)
        return loss

    def give_up(self, error: Exception) -> bool:
        """Stop compiling if the compiler raised this error, in the loss or in its backward pass; whether it did."""
        if self._now is self.function or not from_compiler(error):
            return False
        self._without(_first_line(str(error)) or type(error).__name__)
        return True

    def _without(self, reason: str) -> None:
        warnings.warn(f"the loss cannot be compiled, training goes on without: {reason}", stacklevel=3)
        self._now = self.function


def dropout(flow: FlowMap) -> str | None:
    """The name of a layer of the network that drops anything out, if there is one."""
    return next((name for name, layer in flow.network.named_modules() if isinstance(layer, DROPOUT) and layer.p), None)


def from_compiler(error: BaseException) -> bool:
    """Whether torch's compiler raised this, rather than the program that it compiles."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return type(error).__module__.startswith(COMPILER) or any(name.startswith(BACKENDS) for name in frames)


def _derivatives_inside() -> AbstractContextManager[object]:
    """Gradients that a loss takes of itself become part of its graph, where this version of torch can do that."""
    config = torch._dynamo.config
    return config.patch(trace_autograd_ops=True) if hasattr(config, "trace_autograd_ops") else nullcontext()


def _first_line(text: str) -> str:
    """The first line, with the next one where it only announces it."""
    first, *more = text.strip().split("\n")
    return f"{first} {more[0]}" if first.endswith(":") and more else first
