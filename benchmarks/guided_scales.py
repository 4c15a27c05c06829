"""Does the sampled guidance scale equal the requested scale, on the digits?  python -m benchmarks.guided_scales

One jump of the flow maps of `benchmarks.guided_digits` at scales 1, 2 and 4 is compared with the ODE of a velocity that
is guided by two network calls, at several scales. The velocity is the teacher's for the distilled map, and the map's
own at scale 1 for the map from scratch. The Fréchet distance between samples from different noise should be smallest
at the requested scale.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.guided_digits import NAMES, NULL, SCALES, run_of
from benchmarks.tables import machine, markdown
from flowmaps.evaluate.features import Features
from flowmaps.evaluate.guided import GuidedSampler, on_its_device

BESIDE = (1.0, 2.0, 3.0, 4.0, 6.0)
STEPS, SAMPLES = 50, 1080


def drawn(one: GuidedSampler, features: Features, seed: int) -> Tensor:
    """Features of samples with alternating classes."""
    label = torch.arange(SAMPLES) % NULL["label"]
    noise = torch.randn(SAMPLES, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return features(one.draw(*on_its_device(one, noise, label), 256).x)


def distances(runs: Path, name: str, seed: int, features: Features) -> list[list[float]]:
    """Distances: a row for each requested scale of one jump, a column for each scale of the guided velocity."""
    flow = fm.load(run_of(runs, name, seed))
    source = flow if name == "scratch" else fm.load(run_of(runs, "teacher", seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the map from scratch has learned guidance; it is evaluated at scale 1
        guided = {w: fm.guidance.classifier_free(source, w, null=NULL) for w in BESIDE}
    odes = [
        drawn(GuidedSampler("euler", STEPS, fm.steps.euler, w, v, source, {}), features, 1) for w, v in guided.items()
    ]
    conditions = [{"guidance": torch.tensor([w])} for w in SCALES]
    jumps = [drawn(GuidedSampler("jump", 1, fm.steps.jump, 1.0, flow, flow, one), features, 0) for one in conditions]
    return [[fm.evaluate.frechet_distance(jump, ode) for ode in odes] for jump in jumps]


def table(results: Sequence[dict]) -> str:
    """Means over the seeds."""
    lines = []
    for name in ("distilled", "scratch"):
        for k, scale in enumerate(SCALES):
            values = (mean(result[name][k][j] for result in results) for j in range(len(BESIDE)))
            lines.append([NAMES[name], f"{scale:g}", *(f"{value:.2f}" for value in values)])
    return markdown(["one jump of", "requested scale", *(f"two calls, {w:g}" for w in BESIDE)], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the seeds without a result, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="runs of benchmarks.guided_digits")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/guided_digits"))
    options = parser.parse_args(argv)
    features = fm.evaluate.classifier_features(fm.evaluate.train_classifier(fm.data.load("digits")))
    results = []
    for seed in map(int, options.seeds.split(",")):
        target = options.out / f"scales-{seed}.json"
        if not target.exists():
            found = {name: distances(options.runs, name, seed, features) for name in ("distilled", "scratch")}
            target.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")
        results.append(json.loads(target.read_text()))
    command = f"{results[0]['machine']}; command: python -m benchmarks.guided_scales"
    (options.out / "scales.md").write_text(f"{table(results)}\n\n{command}\n")
    print(f"{table(results)}\n\n{command}")


if __name__ == "__main__":
    main()
