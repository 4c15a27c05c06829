"""The cost of a training step and its bounds:  python -m benchmarks.cost [--parts A,B] [--networks C,D]

- steps: loss and backward pass of every method on an MLP, a DiT and a U-Net, eager and compiled, in units of one
  forward pass of the same network on the same batch. Beside them are the count of matrix products, the same step in
  plain PyTorch (`benchmarks.baselines`), and the jitted step in JAX if it is installed (the extra `bench`).
  All steps take turns in one run, and the table has medians of the processor time of one thread, or of the time of the
  stream on a GPU. Memory is the peak of live tensors besides weights and batch, with gradients, from the events of
  torch's allocator; for JAX it is the plan of its programs.
- roofline: the rate of matrix products on this machine.
- sampling: one jump against ODEs with many steps, by batch size.
- growth: a step against batch, width and tokens.
- streaming: the memory of training on a file that stays on disk.

A part writes its results to `--out` as JSON. A part with results runs again only with --again; --tables only writes
tables and pictures. Inductor's cache keeps compiled programs for later runs.
"""

from __future__ import annotations

import os

os.environ.setdefault(
    "KINETO_LOG_LEVEL", "99"
)  # before torch is imported; otherwise the profiler prints a line at each use

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.baselines import MODULES
from benchmarks.cost import growth, report, roofline, sampling, steps
from benchmarks.cost.measure import Progress, on_one_core, one_thread
from benchmarks.cost.networks import CASES
from benchmarks.tables import machine
from flowmaps.files import write_json
from flowmaps.methods import LANDSCAPE

PARTS = ("roofline", "steps", "sampling", "growth", "streaming")


def names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of comma-separated names: some of `known`, "all" or "none"."""

    def read(text: str) -> list[str]:
        chosen = list(known) if text == "all" else [] if text == "none" else text.split(",")
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
        return chosen

    return read


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options."""
    methods, plain = [row.name for row in LANDSCAPE], list(MODULES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=names(PARTS), default=list(PARTS))
    parser.add_argument("--networks", type=names(list(CASES)), default=list(CASES))
    parser.add_argument("--methods", type=names(methods), default=methods, help="methods to run eagerly")
    parser.add_argument("--compiled", type=names(methods), help="methods to compile (default: a selection)")
    parser.add_argument("--plain", type=names(plain), default=plain)
    parser.add_argument("--compiled-plain", type=names(plain), help="(default: a selection)")
    parser.add_argument("--jax", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cost"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--tables", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts without a result, then write the tables."""
    options, say = parsed(arguments), Progress()
    command = shlex.join(["python", "-m", "benchmarks.cost", *(sys.argv[1:] if arguments is None else arguments)])
    options.out.mkdir(parents=True, exist_ok=True)
    for name, measure in [] if options.tables else chosen(options, say):
        path = options.out / f"{name}.json"
        if options.again or not path.exists():
            say(name)
            with one_thread():
                steps.fresh()
                found = measure()
                write_json(path, {"measured": f"{machine()}; command: {command}", **found})
    report.write(options.out)
    say("done")


def chosen(options: argparse.Namespace, say: Progress) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the name of each chosen result and the function that measures it."""
    if "roofline" in options.parts:
        yield "roofline", partial(on_one_core()(roofline.measured), options.rounds, options.jax, say)
    for name in options.networks:
        if "steps" in options.parts:
            yield f"steps-{name}", partial(on_network, name, choice(options, name), say)
        if "sampling" in options.parts and name != "unet":
            measure = on_one_core()(sampling.measured)
            yield f"sampling-{name}", partial(measure, name, CASES[name], options.rounds, say)
    if "growth" in options.parts:
        yield "growth", partial(on_one_core()(growth.measured), options.rounds, say)
    if "streaming" in options.parts:
        yield "streaming", partial(on_one_core()(growth.streamed), say)


def on_network(name: str, chosen: steps.Choice, say: Progress) -> dict[str, Any]:
    """Measure the steps on one network."""
    return steps.measured(name, CASES[name].setting(), chosen, say)


def choice(options: argparse.Namespace, network: str) -> steps.Choice:
    """The chosen steps on a network."""
    return steps.Choice(
        eager=options.methods,
        compiled=steps.COMPILED[network] if options.compiled is None else options.compiled,
        plain=options.plain,
        compiled_plain=steps.COMPILED_PLAIN[network] if options.compiled_plain is None else options.compiled_plain,
        jax=options.jax,
        rounds=options.rounds,
    )
