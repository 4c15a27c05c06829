"""`flowmaps train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data import Data, load, reflow
from ..flow_map import FlowMap
from ..method import Method
from ..training import load as load_run
from ..training import train
from .arguments import data_arguments
from .models import device, for_row, make_flow, make_method, row_of
from .options import Train, Training
from .tables import say

SHARED = ("batch_size", "lr", "ema", "clip", "seed", "precision", "compile", "progress_bar")
OWN = ("checkpoint_every", "keep", "sample_every", "log_every", "trackers")


def run_train(options: Train) -> None:
    """Train, then say what to do next."""
    row = row_of(options.method)
    data = load(options.data, **data_arguments(options.data_args))
    out = options.out or Path("runs") / f"{Path(data.name).name}-{options.method}"
    if options.reflow is not None:
        say(f"Making {options.couplings} couplings of noise and data by {options.reflow} ...")
        data = reflow(load_run(options.reflow).to(device()), data, options.couplings, seed=options.seed)
    method = make_method(row, options.method_args, options.teacher)
    flow = make_flow(options, data, row) if options.start is None else for_row(load_run(options.start), row)
    length = {"steps": options.steps} if options.seconds is None else {"seconds": options.seconds}
    own = {name: getattr(options, name) for name in OWN}
    own["notes"] = {name: str(run) for name in ("teacher", "reflow") if (run := getattr(options, name))}
    if not one_run(options, data, flow, method, out, resume=options.resume, **length, **own):
        say(f"The run in {out} is complete: there is nothing left to train.")
    say(f"Next:  flowmaps sample {out} -o samples.png    flowmaps evaluate {out}    flowmaps report {out}")


def one_run(options: Training, data: Data, flow: FlowMap, method: Method, out: Path, **own: Any) -> int:
    """Train one method into a folder; how many steps there were to do."""
    weights = sum(weight.numel() for weight in flow.parameters())
    say(f"{method.name} on {data.name}: a network of {weights:,} weights, run folder {out}")
    shared = {name: getattr(options, name) for name in SHARED}
    return sum(1 for _ in train(flow, method, data, out=out, **shared, **own))
