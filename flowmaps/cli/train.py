"""`flowmaps train` and `flowmaps compare`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..data import Data, load
from ..flow_map import FlowMap
from ..method import Method
from ..training import load as load_run
from ..training import train
from .arguments import data_arguments
from .models import make_flow, make_method, row_of
from .options import Compare, Train
from .tables import print_comparison, print_json, say

SHARED = ("batch_size", "lr", "ema", "clip", "seed", "precision", "compile", "progress_bar", "resume")
OWN = ("checkpoint_every", "keep", "sample_every", "log_every", "trackers")


def run_train(options: Train) -> None:
    """Train, then say what to do next."""
    row_of(options.method)
    data = load(options.data, **data_arguments(options.data_args))
    out = options.out or Path("runs") / f"{Path(data.name).name}-{options.method}"
    method = make_method(options.method, options.method_args, options.teacher)
    flow = make_flow(options, data) if options.start is None else load_run(options.start)
    if not one_run(options, data, flow, method, out, **{name: getattr(options, name) for name in OWN}):
        say(f"The run in {out} is complete: there is nothing left to train.")
    say(f"Next:  flowmaps sample {out} -o samples.png    flowmaps evaluate {out}    flowmaps report {out}")


def run_compare(options: Compare) -> None:
    """Train each method into a folder of its own, evaluate, print one table."""
    from ..evaluate import evaluate_run

    names = [row_of(name.strip()).name for name in options.methods.split(",") if name.strip()]
    if not names:
        raise ValueError("--methods needs at least one name")
    data = load(options.data, **data_arguments(options.data_args))
    out = options.out or Path("runs") / f"{Path(data.name).name}-compare"
    # all of them before the first is trained, so that a missing teacher costs no time
    methods = {name: make_method(name, (), options.teacher if row_of(name).needs_teacher else None) for name in names}
    results: dict[str, dict[str, Any]] = {}
    for name, method in methods.items():
        again = dataclasses.replace(options, resume=options.resume and (out / name).exists())
        one_run(again, data, make_flow(options, data), method, out / name)
        say(f"Measuring {out / name} (a large network takes minutes) ...")
        results[name] = evaluate_run(out / name)
    if options.json:
        print_json(results)
    else:
        print_comparison(results)


def one_run(options: Train | Compare, data: Data, flow: FlowMap, method: Method, out: Path, **own: Any) -> int:
    """Train one method into a folder; how many steps there were to do."""
    weights = sum(weight.numel() for weight in flow.parameters())
    say(f"{method.name} on {data.name}: a network of {weights:,} weights, run folder {out}")
    length = {"steps": options.steps} if options.seconds is None else {"seconds": options.seconds}
    shared = {name: getattr(options, name) for name in SHARED}
    notes = {"teacher": options.teacher and str(options.teacher)}
    return sum(1 for _ in train(flow, method, data, out=out, notes=notes, **length, **shared, **own))
