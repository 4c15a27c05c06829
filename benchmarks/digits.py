"""One jump against a hundred steps, on the handwritten digits:  python -m benchmarks.digits

For each seed, two flow maps with the same network, output, optimiser and training time: improved MeanFlow, sampled by
jumps, and flow matching, sampled by 100 Euler steps. The training time excludes compilation. The measures are the ones
of `flowmaps evaluate`: the Fréchet distance in the features of a small classifier, raw and after clamping and rounding
to the 17 grey levels of the data, and the neighbour ratio. This ratio is the mean distance to the nearest training
image, divided by the same mean for held-out images: 1 is like real data, far below 1 are copies, far above 1 is noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import flowmaps as fm
from benchmarks.tables import machine, markdown
from flowmaps.recipes import small_images
from flowmaps.training import State

UNIFORM = fm.times.uniform_triangle(1e-3, 1.0)
METHODS: dict[str, Callable[[], fm.Method]] = {
    "iMF": lambda: fm.methods.imf(diagonal=0.75, times=UNIFORM, power=0),
    "flow matching": lambda: fm.methods.flow_matching(times=UNIFORM),
}
ROWS = {"iMF": ("jump", (1, 2, 4)), "flow matching": ("euler", (100,))}
"""The samplers of each model in the table."""


def trained(flow: fm.FlowMap, method: fm.Method, seed: int, seconds: float, **options: Any) -> State:
    """Train on the digits for `seconds` and return the last state: batches of 256, AdamW at 1e-3, bfloat16."""
    states = fm.train(
        flow, method, fm.data.load("digits"), seconds=seconds, batch_size=256, lr=1e-3, seed=seed, labels=False,
        precision="bf16", progress_bar=False, checkpoint_every=10**9, sample_every=0, **options,
    )  # fmt: skip
    for state in states:
        if state.step % 2000 == 0:
            print(f"{method.name}, seed {seed}: step {state.step}, {state.seconds:.0f} s", flush=True)
    return state


def measured(flow: fm.FlowMap, seed: int, classifier: fm.evaluate.Classifier) -> dict:
    """Measure a flow map as `flowmaps evaluate` does, and note the machine."""
    features = fm.evaluate.classifier_features(classifier)
    return {"seed": seed, "machine": machine(), **fm.evaluate.evaluate(flow, "digits", features=features, seed=seed)}


def train(name: str, seed: int, seconds: float, run: Path) -> None:
    """Train one model for `seconds`, compiled, into a run folder."""
    torch.manual_seed(seed)
    trained(small_images(fm.data.load("digits")), METHODS[name](), seed, seconds, compile=True, out=run)


MEASURES = {
    "distance": "Fréchet",
    "rounded_distance": "rounded",
    "whole_distance": "to all images",
    "neighbour_ratio": "neighbour ratio",
    "copies": "copies",
}


def find(result: dict, sampler: str, steps: int) -> dict:
    """The row of one sampler."""
    return next(row for row in result["rows"] if (row["sampler"], row["steps"]) == (sampler, steps))


def table(results: list[dict]) -> str:
    """A row for each sampler with means over the seeds; the last row is the floor."""
    rows = []
    for name, (sampler, counts) in ROWS.items():
        of_name = [result for result in results if result["method"] == name]
        for n in counts if of_name else ():
            found = [find(result, sampler, n) for result in of_name]
            values = [f"{mean(row[key] for row in found):.2f}" for key in MEASURES]
            micros = f"{1e6 * mean(row['seconds_per_sample'] for row in found):.1f}"
            kind = "jump" if sampler == "jump" else "Euler step"
            rows.append([name, f"{n} {kind}{'s' * (n > 1)}", *values, micros])
    floors = ["floor" if key == "distance" else f"{key}_floor" for key in MEASURES]
    floor = [f"{mean(result[key] for result in results):.2f}" for key in floors]
    header = ["model", "sampler", *MEASURES.values(), "µs per sample"]
    return markdown(header, [*rows, ["data against data (floor)", "", *floor, ""]])


def marks(results: list[dict]) -> str:
    """The target ratios, seed by seed: one jump over 100 Euler steps of flow matching."""
    by = {(result["method"], result["seed"]): result for result in results}
    compared = list(MEASURES)[:3]
    lines = []
    for seed in sorted({result["seed"] for result in results}):
        if all((name, seed) in by for name in METHODS):
            one, many = find(by["iMF", seed], "jump", 1), find(by["flow matching", seed], "euler", 100)
            ratios = [f"{one[key] / many[key]:.2f}" for key in compared]
            faster = f"{many['seconds_per_sample'] / one['seconds_per_sample']:.0f}x"
            counts = [str(by[name, seed]["step"]) for name in METHODS]
            lines.append([str(seed), *ratios, f"{one['neighbour_ratio']:.2f}", faster, *counts])
    ratios = [f"{MEASURES[key]} ratio" for key in compared]
    return markdown(["seed", *ratios, "neighbour ratio", "cheaper", *[f"{n} steps" for n in METHODS]], lines)


def main() -> None:
    """Train the models without a run, measure the runs without a result, then print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--seconds", type=float, default=180.0, help="training time of each model (default: 180)")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="folder of the trained models")
    parser.add_argument("--train-only", choices=list(METHODS), help="only train the seeds of one model")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/digits"))
    options = parser.parse_args()
    wanted = [(name, int(seed)) for seed in options.seeds.split(",") for name in METHODS]
    folders = {(name, seed): options.runs / f"digits-{name.replace(' ', '-')}-{seed}" for name, seed in wanted}
    for (name, seed), folder in folders.items():
        done = folder.exists() or result_of(folder, options.out).exists()
        if options.train_only in (None, name) and not done:
            train(name, seed, options.seconds, folder)
    if options.train_only is None:
        report(folders, options.out)


def result_of(folder: Path, out: Path) -> Path:
    """The file with the measurements of a run."""
    return out / f"{folder.name}.json"


def report(folders: dict[tuple[str, int], Path], out: Path) -> None:
    """Measure the runs, one after the other, and write the tables."""
    out.mkdir(parents=True, exist_ok=True)
    classifier = fm.evaluate.train_classifier(fm.data.load("digits"))
    results = []
    for (name, seed), folder in folders.items():
        target = result_of(folder, out)
        if not target.exists():
            last = fm.training.read_metrics(folder)[-1]
            spent = {key: last[key] for key in ("step", "seconds")}
            found = {"method": name, **spent, **measured(fm.load(folder), seed, classifier)}
            target.write_text(json.dumps(found, indent=1) + "\n")
        results.append(json.loads(target.read_text()))
    text = f"{table(results)}\n\n{marks(results)}\n\n{results[0]['machine']}; command: python -m benchmarks.digits\n"
    (out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
