"""What rounding costs: errors of a network's values, derivatives and gradients on each road of matrix products, and of
trained maps under bfloat16 autocast. Part of benchmarks.matmul.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from statistics import mean
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from flowmaps import matmul
from flowmaps.evaluate.distances import sliced_energy_distance

SAMPLES = 20_000
STOCK = "MKL"
ROADS: dict[str, matmul.Road] = {
    STOCK: matmul.stock,
    "oneDNN": matmul.onednn,
    "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
}
METHODS: dict[str, Callable[[], fm.Method]] = {
    "flow matching": fm.methods.flow_matching,
    "MeanFlow": fm.methods.meanflow,
}


def differentiated(flow: fm.FlowMap, x: Tensor, noise: Tensor, times: tuple[Tensor, Tensor]) -> list[Tensor]:
    """V, dV/ds along the path, and the gradient of MeanFlow's loss, all weights in one."""
    dx = noise - x
    v, dv = fm.derivative.detached(flow.average_velocity, (x, *times), (dx, 1, 0))
    flow.zero_grad()
    fm.methods.meanflow().loss(flow, x, noise=noise, times=times).value.backward()
    gradients = [p.grad.flatten() for p in flow.parameters() if p.grad is not None]
    return [v.detach(), dv, torch.cat(gradients)]


def errors() -> list[list[str]]:
    """Relative errors against float64 of what a step computes, in a DiT whose output is not zero."""
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.DiT((4, 8, 8), 2, 192, 4, 3))
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(torch.randn_like(p), alpha=0.02)
    x, noise, s, t = torch.randn(8, 4, 8, 8), torch.randn(8, 4, 8, 8), torch.rand(8), torch.rand(8)
    reference = copy.deepcopy(flow).double()
    exact = differentiated(reference, x.double(), noise.double(), (s.double(), t.double()))
    rows = []
    for name, road in ROADS.items():
        with road():
            found = differentiated(flow, x, noise, (s, t))
        of_each = [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
        rows.append([name, *(f"{e:.1e}" for e in (matmul.relative_error(road), *of_each))])
    return rows


def trained(method: str, precision: str, steps: int, seed: int) -> float:
    """The distance of samples from fresh data after training on the checkerboard, in thousandths."""
    torch.manual_seed(seed)
    flow, data = fm.FlowMap(fm.networks.MLP(2, width=128, depth=3)), fm.data.load("checkerboard")
    options: dict[str, Any] = {"steps": steps, "batch_size": 512, "ema": 0.99, "seed": seed, "precision": precision}
    for state in fm.train(flow, METHODS[method](), data, progress_bar=False, **options):
        flow = state.ema
    noise = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        way: dict[str, Any] = {"steps": 1} if method == "MeanFlow" else {"steps": 50, "step": fm.steps.euler}
        samples = fm.sample(flow, noise, **way)
    return 1e3 * sliced_energy_distance(samples.float(), data.held_out(SAMPLES).x0)


def trainings(steps: int, seeds: int) -> list[list[str]]:
    """Mean and spread over seeds, in float32 and under bfloat16 autocast."""
    rows = []
    for method in METHODS:
        found = [[trained(method, precision, steps, seed) for seed in range(seeds)] for precision in ("no", "bf16")]
        rows.append([method, *(f"{mean(f):.1f} ({min(f):.1f} to {max(f):.1f})" for f in found)])
    return rows
