"""Checks of numbers on the device: losses, gradients, autocast, compiling, sampling, memory."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import flowmaps as fm
from benchmarks.cost.measure import Work, counted, peak_bytes
from benchmarks.cost.networks import DEVICE, Setting, filled
from benchmarks.cost.works import apart, forget, forward
from benchmarks.gpu.stage import Check, needs_gpu
from benchmarks.landscape import limits_of, method_of, path_of
from flowmaps.cli.failures import is_out_of_memory
from flowmaps.method import measure
from flowmaps.methods import LANDSCAPE
from flowmaps.networks.layers import full_precision
from flowmaps.training.compiling import Compiled
from flowmaps.training.teachers import move_teachers

SHAPE = (2, 8, 8)


def dit(**options: Any) -> nn.Module:
    """A small DiT without zeros among its weights, whose heads the fused kernel supports."""
    return filled(fm.networks.DiT(SHAPE, 2, **{"width": 64, "depth": 2, "heads": 2, **options}))


def landscape_on_the_device() -> Check:
    """Loss and gradient of every method in float64, against the CPU with the same random numbers"""
    worst = 0.0
    for row in LANDSCAPE:
        torch.manual_seed(0)
        x0 = torch.randn(16, *SHAPE, dtype=torch.float64)
        flow = fm.FlowMap(dit().double(), **limits_of(row))
        teacher = fm.FlowMap(dit().double(), path=path_of(row))
        method = method_of(row, teacher).double()
        method.follow(flow, 0.5)
        there = copy.deepcopy((flow, method))
        pairs = method.draw(flow, x0, progress=0.5)
        here = loss_and_gradient(flow, method, pairs)
        flow, method = (part.to(DEVICE) for part in there)
        move_teachers(method, DEVICE)
        for one, other in zip(here, loss_and_gradient(flow, method, to_device(pairs)), strict=True):
            worst = max(worst, relative(other.cpu(), one))
    return Check(worst, 1e-8, "relative error")


def loss_and_gradient(flow: fm.FlowMap, method: fm.Method, pairs: Any, half: bool = False) -> tuple[Tensor, Tensor]:
    """The loss, and the gradients of all weights in one vector."""
    weights = [weight for weight in flow.parameters() if weight.requires_grad]
    forget(weights)
    with torch.autocast(pairs[0].x0.device.type, torch.bfloat16, enabled=half):
        loss = method.measure(flow, pairs, 0.5)
    loss.value.backward()
    return loss.value.detach(), gradient_of(weights)


def gradient_of(weights: list[nn.Parameter]) -> Tensor:
    """All gradients in one vector; a weight without one has zeros."""
    return torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in weights])


def to_device(value: Any) -> Any:
    """Move the tensors in pairs of a method."""
    if isinstance(value, Tensor):
        return value.to(DEVICE)
    if isinstance(value, Mapping):
        return {key: to_device(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(to_device, value))
    if isinstance(value, fm.velocity.Pair):
        changed = {field.name: to_device(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value


def relative(x: Tensor, exact: Tensor) -> float:
    """|x - exact| / |exact|."""
    return float((x.double() - exact.double()).norm() / exact.double().norm())


def drawn(name: str = "meanflow", **options: Any) -> tuple[fm.FlowMap, fm.Method, Any]:
    """A flow map on the device with a method, and its pairs."""
    flow, method = fm.FlowMap(dit(**options).to(DEVICE)), getattr(fm.methods, name)().to(DEVICE)
    return flow, method, method.draw(flow, torch.randn(32, *SHAPE, device=DEVICE), progress=0.5)


def autocast() -> Check:
    """Gradient of MeanFlow in bfloat16 by autocast, against float32"""
    flow, method, pairs = drawn()
    exact = loss_and_gradient(flow, method, pairs)[1].clone()
    return Check(relative(loss_and_gradient(flow, method, pairs, half=True)[1], exact), 0.1, "relative error")


def times_in_full_precision() -> Check:
    """Layers that read a time run in float32 under autocast"""
    layer = nn.Linear(4, 4).to(DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16), full_precision(DEVICE):
        return Check(float(layer(torch.ones(1, 4, device=DEVICE)).dtype != torch.float32), 0, exact=True)


def compiled() -> Check:
    """Gradient of the compiled loss of MeanFlow in float32, against the uncompiled one"""
    return compiled_in(False, 1e-5)


def compiled_half() -> Check:
    """Gradient of the compiled loss of MeanFlow in bfloat16, against the uncompiled one"""
    return compiled_in(True, 2e-2)


def compiled_in(half: bool, bound: float) -> Check:
    """Compile the loss of MeanFlow, and compare its gradient."""
    flow, method, pairs = drawn(depth=1)
    exact = loss_and_gradient(flow, method, pairs, half)[1].clone()
    forget(list(flow.parameters()))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the loss")  # in pieces, or not at all
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
            loss = Compiled(apart(measure))(flow, method.now(0.5), pairs)
    loss.value.backward()
    return Check(relative(gradient_of(list(flow.parameters())), exact), bound, "relative error")


def recomputed() -> Check:
    """Gradient of a network that recomputes its activations"""
    flow, method, pairs = drawn()
    exact = loss_and_gradient(flow, method, pairs)[1].clone()
    again = fm.FlowMap(dit(checkpoint=True).to(DEVICE))
    again.load_state_dict(flow.state_dict())
    return Check(relative(loss_and_gradient(again, method, pairs)[1], exact), 1e-5, "relative error")


def sampled() -> Check:
    """Samples of one jump and of 8 Heun steps, against the CPU with the same noise"""
    flow, worst = fm.FlowMap(dit()), 0.0
    noise = torch.randn(8, *SHAPE)
    there = copy.deepcopy(flow).to(DEVICE)
    for steps, step in ((1, "jump"), (8, "heun")):
        here = fm.sample(flow, noise, steps, step=step)
        worst = max(worst, relative(fm.sample(there, noise, steps, step=step).cpu(), here))
    return Check(worst, 1e-4, "relative error")


def evaluated() -> Check:
    """Distance of Gaussian samples to Gaussian data, over the floor"""
    flow = fm.exact.Gaussian(torch.zeros(2, device=DEVICE), torch.ones(2, device=DEVICE))
    noise = torch.randn(2048, 2, device=DEVICE)
    jump = fm.sample(flow, noise)
    distances = [fm.evaluate.energy_distance(x, torch.randn_like(noise)) for x in (jump, torch.randn_like(noise))]
    return Check(abs(float(distances[0]) - float(distances[1])), 0.02, "difference")


def memory_exhausted() -> Check:
    """The command line knows a GPU without memory"""
    needs_gpu()
    try:
        torch.empty(2**50, dtype=torch.uint8, device=DEVICE)
    except RuntimeError as error:
        known = is_out_of_memory(error) and isinstance(error, torch.OutOfMemoryError) and "CUDA" in str(error)
        return Check(float(known), 1, exact=True)
    raise AssertionError("a petabyte was allocated")


def counted_products() -> Check:
    """Products of a forward pass that are counted on the device, over the ones on the CPU"""
    network = dit()
    here = Setting(network, network, torch.randn(4, *SHAPE))
    there = Setting(copy.deepcopy(network).to(DEVICE), network, torch.randn(4, *SHAPE, device=DEVICE))
    return Check(abs(counted(forward(there)) / counted(forward(here)) - 1), 1e-6, "share")


def memory_of_a_derivative() -> Check:
    """Peak memory of MeanFlow's loss and gradient over flow matching's"""
    bytes_ = []
    for name in ("meanflow", "flow_matching"):
        flow, method, pairs = drawn(name)
        work = partial(loss_and_gradient, flow, method, pairs, True)
        work()
        bytes_.append(peak_bytes(Work(work, partial(forget, list(flow.parameters())))))
    return Check(bytes_[0] / bytes_[1], 1.5, "ratio")


CHECKS: dict[str, Callable[[], Check]] = {
    "every method on the device": landscape_on_the_device,
    "autocast": autocast,
    "times in float32": times_in_full_precision,
    "recomputed activations": recomputed,
    "sampling": sampled,
    "distances": evaluated,
    "memory exhausted": memory_exhausted,
    "products counted": counted_products,
    "memory of MeanFlow": memory_of_a_derivative,
}
COMPILED: dict[str, Callable[[], Check]] = {
    "compiled loss, float32": compiled,
    "compiled loss, bfloat16": compiled_half,
}
