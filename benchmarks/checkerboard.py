"""The checkerboard of Boffi et al. 2025 (arXiv 2505.18825, appendix G.1), scaled to a CPU:

    python -m benchmarks.checkerboard

Unchanged from the published protocol: the board, 10^7 fixed points, the base distribution sigma_d N(0, I) (here the
data are divided by sigma_d and the base is standard normal, which is equivalent), an MLP on (s, t, x) with GELU and
four hidden layers, RAdam at 1e-3 with a square-root decay after the first 23% of training, clipping at 10, 75% of the
rows on the diagonal, uniform times, an EMA of 0.999, 64,000 samples. Scaled down: width 256 instead of 512, batches of
2,048 instead of 100,000, 10,000 steps instead of 150,000 or more.

The metric is KL(density || histogram of samples). With 50 bins a side, as published, bins cross the edges of the
board's squares, and a perfect sampler is far from zero; with 48 bins they do not. The floor in the table is the value
of a perfect sampler.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.tables import machine, markdown
from flowmaps.consistency import midpoint, uniform
from flowmaps.evaluate.distances import histogram_kl
from flowmaps.weight import summed

TRIANGLE = fm.times.uniform_triangle()
METHODS: dict[str, Callable[[], fm.Method]] = {
    "LSD": lambda: fm.methods.lsd(weight=summed),
    "ESD": lambda: fm.methods.esd(weight=summed),
    "PSD-M": lambda: fm.methods.psd(split=midpoint, weight=summed),
    "PSD-U": lambda: fm.methods.psd(split=uniform, weight=summed),
    "MeanFlow": lambda: fm.methods.meanflow(times=TRIANGLE, weight=summed),
    "iMF": lambda: fm.methods.imf(diagonal=0.75, times=TRIANGLE, weight=summed),
}
JUMPS = (1, 2, 4, 8, 16)
BINS = (50, 48)
SAMPLES = 64_000


def square_root_decay(progress: float) -> float:
    """1 for the first 35/150 of training, then 1/sqrt(progress / (35/150))."""
    return max(1.0, progress / (35 / 150)) ** -0.5


def kl(board: fm.data.Data, x: Tensor) -> dict[str, float]:
    """KL(density || histogram of x) in nats, by number of bins a side."""
    assert board.log_prob is not None
    return {str(bins): histogram_kl(x, board.log_prob, bins=bins, half_width=1.0).value for bins in BINS}


def run(name: str, steps: int, width: int, batch: int, seed: int) -> dict:
    """Train one method and measure it at 1 to 16 jumps and by 100 Euler steps of its own velocity."""
    torch.manual_seed(seed)
    board = fm.data.load("checkerboard")
    scale = board.std
    points = board.draw(10_000_000, seed=seed + 1).x0 / scale
    flow = fm.FlowMap(fm.networks.ConcatMLP(2, width=width, depth=4))
    started, cpu = time.perf_counter(), time.process_time()
    states = fm.train(
        flow, METHODS[name](), points, steps=steps, batch_size=batch, clip=10.0, seed=seed, progress_bar=False,
        optimizer=lambda weights: torch.optim.RAdam(weights, lr=1e-3), schedule=square_root_decay, ema=0.999,
    )  # fmt: skip
    for state in states:
        if state.step % 1000 == 0:
            print(f"{name}: step {state.step}, loss {float(state.loss.value):.4f}", flush=True)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    noise = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(seed + 2))
    rows = {f"{n} jumps": kl(board, scale * fm.sample(state.ema, noise, steps=n)) for n in JUMPS}
    rows["100 Euler"] = kl(board, scale * fm.sample(state.ema, noise, steps=100, step=fm.steps.euler))
    return {"method": name, "steps": steps, "width": width, "batch": batch, "seed": seed, **spent, "kl": rows}


def floor(seed: int) -> dict[str, float]:
    """KL of a perfect sampler: as many new points of the board itself."""
    board = fm.data.load("checkerboard")
    return kl(board, board.draw(SAMPLES, seed=seed + 3).x0)


def table(results: list[dict], floors: dict[str, float]) -> str:
    """A table for each number of bins, with a row for each method."""
    parts = []
    for bins in BINS:
        header = ["method", *[f"{n} jump{'s' * (n > 1)}" for n in JUMPS], "100 Euler", "CPU minutes"]
        rows = [
            [r["method"], *[f"{v[str(bins)]:.3f}" for v in r["kl"].values()], f"{r['cpu_seconds'] / 60:.1f}"]
            for r in results
        ]
        note = "as published" if bins == 50 else "bins inside the squares"
        rows.append(["a perfect sampler (floor)", *[f"{floors[str(bins)]:.3f}"] * (len(JUMPS) + 1), ""])
        parts.append(f"KL with {bins} x {bins} bins ({note})\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def main() -> None:
    """Run the methods without a result, then print the table of all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS), help="methods, separated by commas (default: all)")
    parser.add_argument("--steps", type=int, default=10_000, help="training steps of each (default: 10000)")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/checkerboard"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.methods.split(","):
        target = options.out / f"{name}.json"
        if not target.exists():
            result = run(name, options.steps, options.width, options.batch, options.seed) | {"machine": machine()}
            target.write_text(json.dumps(result, indent=1) + "\n")
    results = [
        json.loads((options.out / f"{name}.json").read_text())
        for name in METHODS
        if (options.out / f"{name}.json").exists()
    ]
    text = f"{table(results, floor(options.seed))}\n\n{machine()}; command: python -m benchmarks.checkerboard\n"
    (options.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
