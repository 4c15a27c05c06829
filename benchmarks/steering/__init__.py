"""Steering on the handwritten digits:  python -m benchmarks.steering [--part classes|inverse] [--tables]

One flow map without labels, trained by the recipe of `flowmaps train`, is steered in two ways.

- classes: to each of the ten classes, by one classifier, and judged by another one, which was trained on the other half
  of the training images with another seed. A method is measured at budgets of 1 to 100 network calls a sample; a row of
  a backward pass is a call too, calls of the classifier are not counted. Where a method has several settings, the one
  with the smallest distance on the classes 0 to 4, with other noise, is chosen at each budget. Particles compete within
  a class, N particles give N resampled samples, and a sample costs the passes of a particle.
- inverse: by measurements of held-out images. Settings are chosen on other held-out images: of those within one
  standard error of the smallest CRPS, the one with the coverage nearest to 0.9.

Every cell, a method at a budget or on a problem, is a JSON file in `--out`, and is not run again; --tables only
rebuilds tables and pictures. Networks are trained when they are asked for, and kept in `--runs`.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.steering --part classes &
    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.steering --part inverse
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.steering import classes, inverse, pictures, report
from benchmarks.steering.labels import BUDGETS, METHODS
from benchmarks.steering.networks import SECONDS, Networks
from benchmarks.tables import machine
from flowmaps.files import write_json

OUT = Path("benchmarks/results/steering")
PARTS = ("classes", "inverse")


def cells(part: str, only: Sequence[str]) -> Iterator[tuple[str, Callable[[Networks], dict[str, Any]]]]:
    """The cells of a part: the stem of the file, and the function that measures."""
    if part == "classes":
        yield "classes/data", classes.floors
        for budget in BUDGETS:
            for name, method in METHODS.items():
                if method.least <= budget <= method.most and (not only or name in only):
                    yield (
                        f"classes/{name}-{budget}",
                        lambda n, name=name, budget=budget: classes.result(n, name, budget),
                    )
        return
    for problem in inverse.PROBLEMS:
        yield f"inverse/{problem}-data", lambda n, problem=problem: inverse.floors(problem)
        for name, solver in inverse.SOLVERS.items():
            if problem in solver.only and (not only or name in only):
                yield f"inverse/{problem}-{name}", lambda n, p=problem, name=name: inverse.result(n, p, name)


def measure(networks: Networks, out: Path, part: str, only: Sequence[str] = ()) -> None:
    """Run the cells of a part that have no result."""
    for stem, result in cells(part, only):
        target = out / f"{stem}.json"
        if target.exists():
            continue
        print(stem, flush=True)
        began = time.process_time()
        found = result(networks)
        spent = time.process_time() - began
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, {"machine": machine(), "process_seconds": spent, **found})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells without a result, and write the tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="(default: both)")
    parser.add_argument("--methods", default="", help="names of methods, such as dps,fmtt (default: all)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="processor time of the training of a map")
    parser.add_argument("--tables", action="store_true", help="only rebuild tables and pictures from the results")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/steering"))
    options = parser.parse_args(arguments)
    known = [*METHODS, *inverse.SOLVERS]
    only = [name for name in options.methods.split(",") if name]
    if unknown := [name for name in only if name not in known]:
        raise SystemExit(f"{unknown[0]!r} is not known; known are {', '.join(dict.fromkeys(known))}")
    networks = Networks(options.runs, options.seconds)
    for part in PARTS if options.part is None else (options.part,):
        if not options.tables:
            measure(networks, options.out, part, only)
    if not options.tables:
        for draw, part in ((pictures.digits, "classes"), (pictures.posteriors, "inverse")):
            if options.part in (None, part):
                draw(networks, report.read(options.out, part), options.out)
    print(report.write(options.out))
