"""Guidance in one jump, on the handwritten digits:  python -m benchmarks.guided_digits

For each seed, three class-conditional models with the same network, optimiser and training time, without compilation:

- teacher: flow matching with a label dropout of 10%, sampled by 100 Euler steps of its guided velocity
- distilled: a guidance-conditioned flow map that starts from the teacher and learns its guided velocity (AYF, Eulerian)
- from scratch: guidance-conditioned improved MeanFlow, trained on the data with a label dropout of 10%

Each is measured at scales 1, 2 and 4: the share of samples that a small classifier assigns to the requested class, the
mean distance between two samples of a class, the Fréchet distance to held-out images, and the Fréchet distance to the
teacher's samples at the same scale from other noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import flowmaps as fm
from benchmarks.tables import machine, markdown
from flowmaps import guidance
from flowmaps.data.transforms import GuidanceScales, LabelDropout, transformed
from flowmaps.evaluate.guided import GuidedSampler, by_scale
from flowmaps.experiments.guided_run import guided_samplers
from flowmaps.figures.guidance import percent, scale_curves
from flowmaps.figures.style import figure, light
from flowmaps.figures.words import plus_minus
from flowmaps.recipes import small_images
from flowmaps.reports.guidance import class_mosaic

SCALES = (1.0, 2.0, 4.0)
RANGE = (1.0, 8.0)
"""Range of the scales drawn in training."""
STEPS = 100
UNIFORM = fm.times.uniform_triangle(1e-3, 1.0)
NULL = {"label": 10}

Parts = tuple[fm.FlowMap, fm.Method, fm.data.Data]


def teacher(data: fm.data.Data, runs: Path, seed: int) -> Parts:
    """Flow matching with the null class."""
    return small_images(data, classes=10), fm.methods.flow_matching(times=UNIFORM), with_label_dropout(data)


def distilled(data: fm.data.Data, runs: Path, seed: int) -> Parts:
    """A student of the teacher that learns its guided velocity."""
    known = fm.load(run_of(runs, "teacher", seed))
    guided = guidance.classifier_free(known, null=NULL)
    method = fm.methods.ayf_emd(guided, times=UNIFORM, weight=fm.weight.squared)
    flow = fm.student(known, told=("guidance",), tame=False)
    return flow, method, transformed(data, GuidanceScales(*RANGE))


def scratch(data: fm.data.Data, runs: Path, seed: int) -> Parts:
    """Improved MeanFlow, guided by its own prediction for the null class."""
    method = fm.methods.imf(diagonal=0.75, times=UNIFORM, power=0)
    flow = fm.student(small_images(data, classes=10), told=("guidance",), tame=False)
    scaled = transformed(with_label_dropout(data), GuidanceScales(*RANGE, null=NULL))
    return flow, guidance.guided(method, guidance.imf(null=NULL)), scaled


MODELS: dict[str, Callable[[fm.data.Data, Path, int], Parts]] = {
    "teacher": teacher,
    "distilled": distilled,
    "scratch": scratch,
}


def with_label_dropout(data: fm.data.Data) -> fm.data.Data:
    """The data with a label dropout of 10%."""
    return transformed(data, LabelDropout(0.1, NULL["label"]))


def run_of(runs: Path, name: str, seed: int) -> Path:
    return runs / f"guided-digits-{name}-{seed}"


def train(name: str, seed: int, seconds: float, runs: Path) -> None:
    """Train one model into a run folder: batches of 256, AdamW at 1e-3, bfloat16."""
    torch.manual_seed(seed)
    flow, method, data = MODELS[name](fm.data.load("digits"), runs, seed)
    states = fm.train(
        flow, method, data, seconds=seconds, batch_size=256, lr=1e-3, seed=seed, labels=True, precision="bf16",
        progress_bar=False, checkpoint_every=10**9, sample_every=0, out=run_of(runs, name, seed),
    )  # fmt: skip
    for state in states:
        if state.step % 500 == 0:
            print(f"{name}, seed {seed}: step {state.step}, {state.seconds:.0f} s", flush=True)


def samplers_of(runs: Path, seed: int) -> list[GuidedSampler]:
    """One jump of both flow maps, the ODE of the one from scratch, and the teacher's guided ODE."""
    data, found = fm.data.load("digits"), {}
    for name in MODELS:
        run = run_of(runs, name, seed)
        mine = guided_samplers(run, fm.load(run), data, scales=SCALES, steps=STEPS)
        found[name] = [replace(one, run=name, reference=name == "teacher") for one in mine]
    jumps = [one for name in ("distilled", "scratch") for one in found[name] if one.name == "jump"]
    odes = [one for name in ("scratch", "teacher") for one in found[name] if one.name == "euler"]
    return jumps + odes


def measured(runs: Path, seed: int, classifier: fm.evaluate.Classifier) -> dict[str, Any]:
    """All measurements of one seed."""
    last = {name: fm.training.read_metrics(run_of(runs, name, seed))[-1] for name in MODELS}
    spent = {name: {key: row[key] for key in ("step", "seconds")} for name, row in last.items()}
    samplers, data = samplers_of(runs, seed), fm.data.load("digits")
    found = by_scale(samplers, data, classifier, seed=seed)
    return {"seed": seed, "machine": machine(), "training": spent, **found}


def averaged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the results over the seeds.

    The standard errors include the noise of the samples, not of training. All seeds have the same held-out images.
    """
    keys = list(results[0]["measures"])
    rows = [merged(same, keys) for same in zip(*(result["rows"] for result in results), strict=True)]
    return {**results[0], "rows": rows}


def merged(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """Average the same row of all seeds: measures, times, and standard errors as of independent numbers."""
    new = dict(rows[0])
    for key in keys:
        new[key] = mean(row[key] for row in rows)
        new[f"{key}_stderr"] = sum(row[f"{key}_stderr"] ** 2 for row in rows) ** 0.5 / len(rows)
    if "seconds_per_sample" in new:
        new["seconds_per_sample"] = mean(row["seconds_per_sample"] for row in rows)
    return new


NAMES = {"distilled": "distilled", "scratch": "from scratch", "teacher": "teacher, guided"}
COLUMNS = {
    "accuracy": "recognised",
    "diversity": "diversity",
    "distance": "Fréchet",
    "to_reference": "to the teacher's samples",
}


def table(found: dict[str, Any]) -> str:
    """A row for the held-out data, and a row for each sampler and scale."""

    def cells(row: dict[str, Any]) -> list[str]:
        values = ((row.get(key), row.get(f"{key}_stderr")) for key in list(COLUMNS)[1:])
        return [percent(row), *("" if value is None else plus_minus(value, error) for value, error in values)]

    rows = [["held-out digits", "", "", *cells(found["data"]), ""]]
    for row in found["rows"]:
        kind = "1 jump" if row["sampler"] == "jump" else f"{row['steps']} Euler steps"
        micros = f"{1e6 * row['seconds_per_sample']:.0f}"
        rows.append([NAMES[row["run"]], kind, f"{row['scale']:g}", *cells(row), micros])
    return markdown(["model", "sampler", "scale", *COLUMNS.values(), "µs per sample"], rows)


def by_seed(results: Sequence[dict[str, Any]]) -> str:
    """One jump, seed by seed, and the number of training steps."""
    lines = []
    for result in results:
        for name in ("distilled", "scratch"):
            rows = [row for row in result["rows"] if (row["run"], row["sampler"]) == (name, "jump")]
            values = [f"{row[key]:.3f}" for key in ("accuracy", "to_reference") for row in rows]
            lines.append([str(result["seed"]), NAMES[name], *values, str(result["training"][name]["step"])])
    columns = [f"{measure} at {w:g}" for measure in ("recognised", "to the teacher") for w in SCALES]
    return markdown(["seed", "one jump", *columns, "training steps"], lines)


def draw(samplers: Sequence[GuidedSampler], found: dict[str, Any], out: Path) -> None:
    """Draw samples of one seed by one jump and by the teacher, a column for each scale, and the measures by scale."""
    from PIL import Image

    data = fm.data.load("digits")
    shown = [one for one in samplers if one.name == "jump" or one.run == "teacher"]
    rows, path = len(shown) // len(SCALES), out / "classes.png"
    with figure(light, 7.5, 3.1 * rows, path, nrows=rows, ncols=len(SCALES)) as (_, axes):
        for one, axis in zip(shown, axes.flat, strict=True):
            axis.imshow(class_mosaic(one, data).numpy(), interpolation="nearest")
            kind = "1 jump" if one.name == "jump" else f"{one.steps} steps"
            axis.set_title(f"{NAMES[one.run or '']}, {kind}, scale {one.scale:g}", fontsize=8)
            axis.set_axis_off()
    Image.open(path).convert("L").quantize(32).save(path, optimize=True)  # a sixth of the bytes
    keys = [key for key in COLUMNS if key in found["measures"]]
    scale_curves(found, out / "by_scale.png", keys=keys)


def report(runs: Path, seeds: Sequence[int], out: Path) -> None:
    """Measure the seeds without a result, then write the tables and pictures of all seeds."""
    out.mkdir(parents=True, exist_ok=True)
    classifier = fm.evaluate.train_classifier(fm.data.load("digits"))
    for seed in seeds:
        target = out / f"{seed}.json"
        if not target.exists():
            target.write_text(json.dumps(measured(runs, seed, classifier), indent=1) + "\n")
    results = [json.loads((out / f"{seed}.json").read_text()) for seed in seeds]
    found = averaged(results)
    command = f"{results[0]['machine']}; command: python -m benchmarks.guided_digits"
    (out / "table.md").write_text(f"{table(found)}\n\n{command}\n")
    (out / "seeds.md").write_text(f"{by_seed(results)}\n")
    print(f"{table(found)}\n\n{by_seed(results)}\n\n{command}")
    if run_of(runs, "teacher", seeds[0]).exists():
        draw(samplers_of(runs, seeds[0]), found, out)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the models without a run, measure the seeds without a result, then write tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--seconds", type=float, default=180.0, help="training time of each model (default: 180)")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="where the trained models are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/guided_digits"))
    options = parser.parse_args(argv)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for seed in seeds:
        for name in MODELS if not (options.out / f"{seed}.json").exists() else ():
            if not run_of(options.runs, name, seed).exists():
                train(name, seed, options.seconds, options.runs)
    report(options.runs, seeds, options.out)


if __name__ == "__main__":
    main()
