"""Pieces of work to measure: the library's step, eager and compiled, the plain step, and the forward pass."""

from __future__ import annotations

import warnings
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

import flowmaps as fm
from benchmarks.baselines import baseline
from benchmarks.cost.measure import Work
from benchmarks.cost.networks import Setting
from benchmarks.landscape import limits_of, method_of, path_of, row_of
from flowmaps.method import measure
from flowmaps.training.compiling import Compiled

PROGRESS = 0.5
"""Progress of training at which a step is measured."""

warnings.filterwarnings("ignore", message="attention runs unfused under torch's own forward mode")


def forward(given: Setting, compiled: bool = False) -> Work:
    """One call of the network without a graph."""
    call = torch.compile(given.network) if compiled else given.network
    x, time = given.x0, given.times

    @torch.no_grad()
    def run() -> Tensor:
        with given.autocast():
            return call(x, time, time)

    return Work(run)


def ours(name: str, given: Setting, compiled: bool = False) -> Work:
    """Loss and backward pass of the library's method in the middle of its training.

    As in `train(compile=True, precision="bf16")`, the loss is compiled without its draws, and autocast is around it.
    """
    row = row_of(name)
    flow = fm.FlowMap(given.network, **limits_of(row))
    method = method_of(row, fm.FlowMap(given.teacher, path=path_of(row)))
    method.follow(flow, PROGRESS)
    terms = method.now(PROGRESS)

    evaluate = Compiled(apart(measure)) if compiled else measure

    def step() -> None:
        method.follow(flow, PROGRESS)
        pairs = method.draw(flow, given.x0, progress=PROGRESS)
        with given.autocast():
            loss = evaluate(flow, terms, pairs)
        loss.value.backward()

    return Work(step, lambda: forget([*flow.parameters(), *method.parameters()]))


def plain(name: str, given: Setting, compiled: bool = False) -> Work:
    """Loss and backward pass of the plain step."""
    written = baseline(name, given.network)

    def value(*drawn: Tensor) -> Tensor:
        return written.loss(given.network, given.x0, *drawn)

    evaluate = torch.compile(apart(value)) if compiled else value

    def step() -> None:
        drawn = written.draw(given.x0)
        with given.autocast():
            loss = evaluate(*drawn)
        loss.backward()

    return Work(step, lambda: forget(list(given.network.parameters())))


def forget(weights: list[nn.Parameter]) -> None:
    """Remove the gradients."""
    for weight in weights:
        weight.grad = None


def apart(function: Any) -> Any:
    """Copy a function with its code, because torch keeps and limits compiled programs by code object."""
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
