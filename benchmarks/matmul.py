"""Which road matrix products take on this processor, and what that does to a training step:

    python -m benchmarks.matmul

Rates of the products of linear layers and of fused attention, then training steps, on each road of `flowmaps.matmul`,
under bfloat16 autocast, in JAX where it is installed, and through MKL where it has been told that the processor is
Intel's (a library of one function, preloaded: see docs/matmul.md), in another process. One thread, processor time, in
turns in one run, medians. Then the errors that bfloat16 makes, in a transformer and after training.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

import flowmaps as fm
from benchmarks.matmul_errors import METHODS, ROADS, STOCK, errors, trainings
from benchmarks.tables import machine, markdown
from flowmaps import matmul

Work = Callable[[], object]

PRELOADED, JAX = "MKL, told Intel", "JAX"
LAYERS = {  # rows, width in, width out
    "MLP 256, batch 512": (512, 256, 256),
    "MLP 512, batch 512": (512, 512, 512),
    "DiT 384, modulation, batch 16": (16, 384, 2304),
    "DiT 384, attention, 1024 tokens": (1024, 384, 1152),
    "DiT 384, MLP, 1024 tokens": (1024, 384, 1536),
    "DiT 384, MLP, 4096 tokens": (4096, 384, 1536),
    "DiT 768, MLP, 1024 tokens": (1024, 768, 3072),
}
PRODUCTS = ("forward", "dX", "dW")
ATTENTION = {"fused attention, 64 tokens": (16, 6, 64, 64), "fused attention, 256 tokens": (4, 6, 256, 64)}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 256": (lambda: fm.networks.MLP(64, width=256, depth=4), (512, 64)),
    "MLP 512": (lambda: fm.networks.MLP(64, width=512, depth=4), (512, 64)),
    "DiT 384, depth 4": (lambda: fm.networks.DiT((4, 16, 16), 2, 384, 4, 6), (16, 4, 16, 16)),
}
PRELOAD = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def operands(layer: str, product: str) -> tuple[Tensor, Tensor]:
    """x W^T, g W and g^T x: the products of a linear layer and of its backward pass."""
    rows, inner, outer = LAYERS[layer]
    x, w, g = torch.randn(rows, inner), torch.randn(outer, inner), torch.randn(rows, outer)
    return {"forward": (x, w.t()), "dX": (g, w), "dW": (g.t(), x)}[product]


@functools.cache
def kernel(name: str, product: str) -> tuple[Work, float]:
    """One product or one attention, and its count of operations."""
    if name in ATTENTION:
        q, k, v = torch.randn(3, *ATTENTION[name])
        batch, heads, tokens, width = ATTENTION[name]
        return lambda: nn.functional.scaled_dot_product_attention(q, k, v), 4.0 * batch * heads * tokens**2 * width
    a, b = operands(name, product)
    rows, inner, outer = LAYERS[name]
    return lambda: torch.mm(a, b), 2.0 * rows * inner * outer


@functools.cache
def in_jax(name: str, product: str) -> Work:
    """The same product, jitted, on the matrices as torch holds them."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import jax

    arrays = [jax.numpy.asarray(m.numpy() if m.is_contiguous() else m.t().numpy()) for m in operands(name, product)]
    first, second = (not m.is_contiguous() for m in operands(name, product))
    compiled = jax.jit(lambda a, b: (a.T if first else a) @ (b.T if second else b))
    return lambda: compiled(*arrays).block_until_ready()


@functools.cache
def step(network: str, method: str) -> Work:
    """Loss and backward pass in the middle of training."""
    make, shape = NETWORKS[network]
    flow, loss, x0 = fm.FlowMap(make()), METHODS[method](), torch.randn(shape)

    def work() -> None:
        flow.zero_grad(set_to_none=True)
        loss.loss(flow, x0, progress=0.5).value.backward()

    return work


def seconds(work: Work, repeats: int = 1) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def kernel_seconds(name: str, product: str, road: str) -> float:
    """Of one product on a road, mean of calls that take some milliseconds together."""
    work, operations = kernel(name, product)
    repeats = min(max(1, int(5e8 / operations)), 50)
    if road == JAX:
        return seconds(in_jax(name, product), repeats)
    with ROADS[road]():
        return seconds(work, repeats)


def step_seconds(network: str, method: str, road: str) -> float:
    """Of one training step on a road."""
    with ROADS[road]():
        return seconds(step(network, method))


def stock_error() -> float:
    """Of products in this process."""
    return matmul.relative_error(matmul.stock)


def alone() -> None:
    """One thread for torch in this process."""
    torch.set_num_threads(1)


@contextmanager
def preloaded() -> Iterator[Executor | None]:
    """A process in which MKL takes the processor for Intel's; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "preload.c"), Path(folder, "preload.so")
        source.write_text(PRELOAD)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        before = os.environ.get("LD_PRELOAD")
        os.environ["LD_PRELOAD"] = str(library)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), alone) as pool:
            pool.submit(alone).result()
            os.environ.pop("LD_PRELOAD") if before is None else os.environ.update(LD_PRELOAD=before)
            yield pool


def in_turns(
    measure: Callable[..., float], what: tuple[str, str], rounds: int, other: Executor | None, *roads: str
) -> dict[str, list[float]]:
    """Seconds on each road, round by round, after one round to warm up."""
    ways: dict[str, Callable[[], float]] = {road: functools.partial(measure, *what, road) for road in roads}
    if other is not None:
        ways[PRELOADED] = lambda: other.submit(measure, *what, STOCK).result()
    for way in ways.values():
        way()
    found: dict[str, list[float]] = {road: [] for road in ways}
    for _ in range(rounds):
        for road, way in ways.items():
            found[road].append(way())
    return found


def rates(rounds: int, other: Executor | None, roads: Sequence[str]) -> list[list[str]]:
    """GF/s of each product on each road, in the order of `roads`."""
    rows = []
    for name, product in [*((layer, p) for layer in LAYERS for p in PRODUCTS), *((a, "forward") for a in ATTENTION)]:
        here = [r for r in roads if r != PRELOADED and (r != JAX or name in LAYERS)]
        found = in_turns(kernel_seconds, (name, product), rounds, other, *here)
        operations = kernel(name, product)[1]
        rates = [f"{operations / median(found[r]) / 1e9:.0f}" if r in found else "-" for r in roads]
        rows.append([f"{name}, {product}" if name in LAYERS else name, *rates])
    return rows


def steps(rounds: int, other: Executor | None, roads: Sequence[str]) -> list[list[str]]:
    """Milliseconds of each step on the stock road, and how many times faster the others are."""
    rows = []
    for network in NETWORKS:
        for method in METHODS:
            found = in_turns(step_seconds, (network, method), rounds, other, *(r for r in roads if r != PRELOADED))
            gains = [median(a / b for a, b in zip(found[STOCK], found[r], strict=True)) for r in roads if r != STOCK]
            rows.append([f"{network}, {method}", f"{1e3 * median(found[STOCK]):.0f}", *(f"{g:.2f}x" for g in gains)])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure rates, steps and errors, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--train-steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/matmul/table.md"))
    options = parser.parse_args(arguments)
    alone()
    torch.manual_seed(0)
    with preloaded() as other:
        here = [STOCK, *([PRELOADED] if other else []), *list(ROADS)[1:]]
        jax = [JAX] if find_spec("jax") else []
        known = [[PRELOADED, f"{other.submit(stock_error).result():.1e}", "-", "-", "-"]] if other else []
        tables = [
            markdown(["GF/s, one thread", *here, *jax], rates(options.rounds, other, [*here, *jax])),
            markdown(["loss and backward pass", "MKL, ms", *here[1:]], steps(options.rounds, other, here)),
        ]
    tables += [
        markdown(["error against float64", "products", "V", "dV", "gradient of MeanFlow"], errors() + known),
        markdown(["1000 x distance to data", "float32", "bfloat16"], trainings(options.train_steps, options.seeds)),
    ]
    command = f"python -m benchmarks.matmul --train-steps {options.train_steps} --seeds {options.seeds}"
    text = "\n\n".join([*tables, f"{machine()}; command: {command}\n"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
