"""Checks of training on the device: waits, copies, streams, checkpoints, random numbers, optimisers."""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import flowmaps as fm
from benchmarks.cost.networks import DEVICE
from benchmarks.gpu.check_numbers import SHAPE, dit
from benchmarks.gpu.stage import Check, needs_gpu
from flowmaps.draws import seeded
from flowmaps.training import still_times
from flowmaps.training.optimizers import adamw

QUIET: dict[str, Any] = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 32, "log_every": 10**6}

EXAMINED = still_times.STEPS[-1] + 1
"""Steps after which training does not examine the network any more, which waits."""


def dit_of(seed: int) -> nn.Module:
    """The same network at each call."""
    torch.manual_seed(seed)
    return dit()


def mlp_of(seed: int) -> nn.Module:
    """A network whose gradients are the same bits at each call; the ones of attention are sums in any order."""
    torch.manual_seed(seed)
    return fm.networks.MLP(SHAPE, width=64, depth=2)


def difference(one: fm.FlowMap, other: fm.FlowMap) -> float:
    """Largest difference of two weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a.detach().cpu() - b.detach().cpu()).abs().max()) for a, b in pairs)


def data(rows: int = 320) -> fm.data.Data:
    """Random images on the CPU."""
    return fm.data.as_data(torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1, kind="images")


def no_waiting() -> Check:
    """Waits for the device in ten steps of training, besides the one for the loss of the step before"""
    needs_gpu()
    states = fm.train(fm.FlowMap(dit()), "meanflow", data(), steps=100, precision="bf16", clip=1.0, **QUIET)
    for _ in range(EXAMINED):
        next(states)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(10):
                next(states)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    states.close()
    waits = [warning for warning in seen if "synchroniz" in str(warning.message)]
    return Check(len(waits), 0, "; ".join(sorted({f"{Path(w.filename).name}:{w.lineno}" for w in waits})), exact=True)


def late_nan() -> Check:
    """The step of a NaN in a batch, which is found one step later, with its cause"""
    x = torch.rand(320, *SHAPE) * 2 - 1
    rows = fm.data.as_data(x, kind="images")
    order = torch.cat([batch.x0 for batch, _ in zip(rows.batches(32), range(5), strict=False)])
    x[(x == order[-1]).flatten(1).all(1)] = torch.nan
    if x.isfinite().all():
        raise AssertionError("no row was found that comes fifth")
    try:
        fm.fit(fm.FlowMap(dit()), "flow_matching", rows, steps=8, **QUIET)
    except FloatingPointError as error:
        said = str(error)
        return Check(float("at step 5" in said and "the batch holds" in said), 1, said[:120], exact=True)
    raise AssertionError("a NaN was not noticed")


def pinned() -> Check:
    """Time of a copy from pinned memory over one from pageable memory, 64 MiB"""
    needs_gpu()
    x = torch.randn(2**24)
    copies = [partial(y.to, DEVICE, non_blocking=True) for y in (x.pin_memory(), x)]
    times = [[clocked(copy_) for _ in range(9)] for copy_ in copies]
    return Check(min(times[0]) / min(times[1]), 1.0, "ratio")


def clocked(work: Callable[[], Any]) -> float:
    """Seconds of work on the device, with the launch."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def resumed() -> Check:
    """Weights after a checkpoint and a resumption, against training without"""
    with tempfile.TemporaryDirectory() as folder:
        plan = {**QUIET, "checkpoint_every": 3}
        straight, stopped, goes_on = (fm.FlowMap(mlp_of(0)) for _ in range(3))
        fm.fit(straight, "meanflow", data(), steps=6, **plan)
        states = fm.train(stopped, "meanflow", data(), steps=6, out=Path(folder) / "run", **plan)
        for state in states:
            if state.step == 3:
                break
        states.close()
        fm.fit(goes_on, "meanflow", data(), steps=6, out=Path(folder) / "run", resume=True, **plan)
        loaded = fm.load(Path(folder) / "run", ema=False)
        if loaded.like.device.type != "cpu":
            raise AssertionError(f"a run is loaded on the CPU, got {loaded.like.device}")
        return Check(max(difference(straight, goes_on), difference(loaded, goes_on)), 1e-6, "largest difference")


def other_stream() -> Check:
    """Weights after training on a stream of its own, against the default one"""
    needs_gpu()
    flows = [fm.FlowMap(mlp_of(0)) for _ in range(2)]
    fm.fit(flows[0], "meanflow", data(), steps=6, **QUIET)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        fm.fit(flows[1], "meanflow", data(), steps=6, **QUIET)
    torch.cuda.synchronize()
    return Check(difference(*flows), 1e-6, "largest difference")


def accumulated() -> Check:
    """Weights after training in two accumulated parts, against whole batches"""
    flows = [fm.FlowMap(dit_of(0)) for _ in range(2)]
    for flow, parts in zip(flows, (1, 2), strict=True):
        optimizer = partial(torch.optim.SGD, lr=0.1)
        fm.fit(flow, "meanflow", data(), steps=4, accumulate=parts, optimizer=optimizer, **QUIET)
    return Check(difference(*flows), 1e-5, "largest difference")


def random_numbers() -> Check:
    """Draws that differ with the same seed, or a generator that does not go on as before"""
    wrong, after, seen = 0, [], []
    for draws in (0, 2):
        torch.manual_seed(0)
        for _ in range(draws):
            with seeded(DEVICE, 3, 5):
                seen.append(torch.rand(1000, device=DEVICE))
        after.append(torch.rand(4, device=DEVICE))
    wrong += int((seen[0] != seen[1]).sum()) + int((after[0] != after[1]).sum())
    return Check(wrong, 0, exact=True)


def optimizer_on_the_device() -> Check:
    """Weights after six steps of fused AdamW, against the CPU in float64"""
    flow = fm.FlowMap(dit_of(0).double())
    other = copy.deepcopy(flow).to(DEVICE)
    gradients = [[torch.randn_like(w) for w in flow.parameters()] for _ in range(6)]
    for one in (flow, other):
        optimizer = adamw(1e-3)(one.parameters())
        for of_step in gradients:
            for weight, gradient in zip(one.parameters(), of_step, strict=True):
                weight.grad = gradient.to(weight)
            optimizer.step()
    return Check(difference(flow, other), 1e-9, "largest difference")


CHECKS: dict[str, Callable[[], Check]] = {
    "no waiting in a step": no_waiting,
    "NaN found one step later": late_nan,
    "pinned memory": pinned,
    "checkpoint and resumption": resumed,
    "another stream": other_stream,
    "accumulated parts": accumulated,
    "random numbers": random_numbers,
    "fused AdamW": optimizer_on_the_device,
}
