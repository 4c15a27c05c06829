"""Which road float32 matrix products take on a CPU, chosen by measurement:  with matmul.fastest(step)(): train.

A road is a function that makes a context within which torch takes it, forward, backward and under any derivative, eager
or compiled. `stock` is what torch does unasked (in the usual builds, MKL's products); `onednn` sends them through
oneDNN. Which is faster depends on processor and network: MKL uses half of the width of a 512-bit processor of AMD, and
oneDNN has a fixed cost for each product, which fused attention with few tokens pays many times.

    def step():
        flow.zero_grad()
        method.loss(flow, x0).value.backward()

    with matmul.fastest(step)():
        for state in fm.train(flow, method, data, steps=1000):
            ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

Road = Callable[[], AbstractContextManager[object]]
Work = Callable[[], object]

ROUNDING = 2e-6
"""The largest `relative_error` of a road that keeps float32; rounding to bfloat16 makes 2e-3, to TF32 2e-4."""


@contextmanager
def stock() -> Iterator[None]:
    """What torch does unasked."""
    yield


@contextmanager
def onednn() -> Iterator[None]:
    """Products through oneDNN, for all threads of the process; the switch is as it was on leaving.

    Torch's own switch, `torch.backends.mkldnn.matmul.fp32_precision = "bf16"`, also allows bfloat16 inside: oneDNN
    takes that up where there are units for it (AMX, Arm), and stays in float32 elsewhere. `relative_error` tells which.
    Within the context torch refuses `torch.get_float32_matmul_precision()`, the older name of the same thing.

    Raises RuntimeError where torch has no oneDNN, or is older than 2.9.
    """
    if not _has_onednn():
        raise RuntimeError(f"expected torch >= 2.9 with oneDNN, got {torch.__version__}; use `stock`, or `fastest`")
    switch = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        yield
    finally:
        switch.fp32_precision = before


def roads() -> tuple[Road, ...]:
    """The roads there are here, `stock` first."""
    return (stock, onednn) if _has_onednn() else (stock,)


def fastest(
    work: Work | None = None,
    *,
    among: Sequence[Road] | None = None,
    error: float = ROUNDING,
    gain: float = 0.05,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Road:
    """The road on which `work` takes least time, of those `among` (all of `roads()`) that are exact enough.

    work     what is timed, `rounds` times on each road in turns, once before that to warm up; give the step that will
             be run: loss and backward pass on a batch. Without it: a transformer layer of width 384 on 256 tokens,
             which takes some tenths of a second in all
    error    the largest `relative_error` allowed
    gain     the share of time that must be saved to leave the first road of `among`
    clock    seconds

    Each road is given its shortest time, which other load on the machine disturbs least.
    """
    first, *others = roads() if among is None else among
    candidates = [first, *(road for road in others if relative_error(road) <= error)]
    if len(candidates) == 1:
        return first
    seconds = _shortest(_transformer_layer() if work is None else work, candidates, rounds, clock)
    best = min(candidates, key=seconds.__getitem__)
    return best if seconds[best] <= (1 - gain) * seconds[first] else first


def relative_error(road: Road, inner: int = 512) -> float:
    """max |y - y*| / |y*| over a layer's three products and a batched one, against float64; norms of Frobenius.

    The entries are normal and each is a sum of at least `inner` products.
    """
    random = torch.Generator().manual_seed(0)
    x, w, g = (torch.randn(inner, inner, generator=random) for _ in range(3))
    batched = torch.randn(2, inner, inner, generator=random)
    products: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]] = [
        (nn.functional.linear, x, w),
        (torch.mm, g, w),
        (torch.mm, g.t(), x),
        (torch.bmm, batched, batched.mT),
    ]
    errors = []
    for product, a, b in products:
        with road():
            y = product(a, b)
        exact = product(a.double(), b.double())
        errors.append(torch.linalg.norm(y.double() - exact) / torch.linalg.norm(exact))
    return float(max(errors))


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.backends.mkldnn, "matmul")


def _shortest(work: Work, among: Sequence[Road], rounds: int, clock: Callable[[], float]) -> dict[Road, float]:
    """The shortest time of `work` on each road, measured in turns."""
    for road in among:
        _timed(work, road, clock)
    turns = [[_timed(work, road, clock) for road in among] for _ in range(rounds)]
    return {road: min(seconds) for road, seconds in zip(among, zip(*turns, strict=True), strict=True)}


def _timed(work: Work, road: Road, clock: Callable[[], float]) -> float:
    with road():
        start = clock()
        work()
        return clock() - start


def _transformer_layer() -> Work:
    """A forward and a backward pass of attention and MLP, without touching torch's generators."""
    with torch.random.fork_rng(devices=[]):
        layer = nn.TransformerEncoderLayer(384, 6, 1536, dropout=0.0, batch_first=True)
        x = torch.randn(4, 64, 384)
    weights = list(layer.parameters())
    return lambda: torch.autograd.grad(layer(x).square().mean(), weights)
