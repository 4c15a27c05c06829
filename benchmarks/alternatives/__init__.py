"""Paths or distributions:  python -m benchmarks.alternatives [--sets A,B] [--methods A,B] [--seeds 0]

The methods that match distributions instead of paths, alone and as a term beside a flow-map method, on equal terms with
the flow-map methods of `benchmarks.one_step`: the same data sets, networks, batches, optimizer and processor time of
each training. Methods from scratch start from new weights. The others start from the weights of the reference, flow
matching, and learn from it: its budget comes before theirs. The settings that differ from the defaults of a method are
listed in `benchmarks/alternatives/methods.py`.

Measured are one, two and four jumps, where the method is made for them: the distances of `benchmarks.one_step` beside
their floors, the neighbour ratio, the share of the modes that samples reach and the width of modes, where the modes are
known, the passes of a step, its time, and the bytes that it keeps for the backward pass.

Every cell, a method on a data set with a seed, is a JSON file in `--out`, and is not run again. Cells of the flow-map
methods are read from the results of `benchmarks.one_step` where they are there. --tables only rebuilds the tables.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.alternatives
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import one_step
from benchmarks.alternatives import report
from benchmarks.alternatives.cells import SETS, Alternatives
from benchmarks.alternatives.methods import ENTRIES, GROUPS
from benchmarks.one_step.measured import OUT as PATHS
from flowmaps.cli.arguments import seconds_of

OUT = Path("benchmarks/results/alternatives")
"""Usual folder of the results."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells without a result, and write the tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help=f"data sets: {', '.join(SETS)} (default: all)")
    parser.add_argument("--methods", default=",".join(GROUPS), help=f"methods: {', '.join(ENTRIES)} (default: all)")
    parser.add_argument("--seeds", default="0", help="(default: 0)")
    parser.add_argument("--budget", help="processor time of each training, 90s or 5m (default: by data set)")
    parser.add_argument("--reverse", action="store_true", help="begin with the last cell")
    parser.add_argument("--tables", action="store_true", help="only rebuild tables and pictures from the results")
    parser.add_argument("--paths", type=Path, default=PATHS, help="results of benchmarks.one_step")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/benchmarks/one_step"), help="folder of the weights of the reference"
    )
    options = parser.parse_args(arguments)
    sets = one_step.chosen(options.sets, dict.fromkeys(SETS), {})
    methods = one_step.chosen(options.methods, ENTRIES, GROUPS)
    cells = [(name, method, int(seed)) for seed in options.seeds.split(",") for name in sets for method in methods]
    if not options.tables:
        work = Alternatives(options.budget and seconds_of(options.budget), options.out, options.runs, options.paths)
        one_step.run(work, cells[:: -1 if options.reverse else 1])
    print(report.write(options.out, options.paths))
