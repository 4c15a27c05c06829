"""One jump against many steps, on six data sets:  python -m benchmarks.one_step [--sets A,B] [--methods A,B]

On each data set all models have the network of `flowmaps train` (without labels), batches of 256, AdamW at 1e-3 with
the schedule of `flowmaps train`, clipped at 10, EMA 0.999, and one budget of processor time. The reference is flow
matching, by 100 Euler and by 18 Heun steps. Methods from scratch start from new weights. Distillations start from the
weights of the reference of their seed and learn from it: its budget comes before theirs. The couplings of
rectified_meanflow count in its own budget. Settings that differ from the defaults of a method are listed in
`benchmarks/one_step/methods.py`.

Every cell, a method on a data set with a seed, is a JSON file in `--out`, and is not run again. Several processes can
share the work: a cell is locked while a process works on it, and --reverse begins at the other end. Interrupted cells
begin anew. --tables only rebuilds tables and pictures. `--methods imf,settings` changes one setting of imf at a time.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.one_step &
    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.one_step --reverse
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.one_step import report
from benchmarks.one_step.cells import Cells, Named
from benchmarks.one_step.measured import OUT
from benchmarks.one_step.methods import GROUPS, METHODS
from benchmarks.one_step.sets import SETS
from flowmaps.cli.arguments import seconds_of

USUAL = "reference,scratch,distillation"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells without a result, and write the tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help=f"data sets: {', '.join(SETS)} (default: all)")
    parser.add_argument(
        "--methods", default=USUAL, help=f"methods, or {', '.join(GROUPS)} for a group of them (default: {USUAL})"
    )
    parser.add_argument("--seeds", default="0,1,2", help="(default: 0,1,2)")
    parser.add_argument(
        "--budget", help="processor time of each training, 90s or 5m (default: by data set, see sets.py)"
    )
    parser.add_argument("--reverse", action="store_true", help="begin with the last cell")
    parser.add_argument("--tables", action="store_true", help="only rebuild tables and pictures from the results")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/benchmarks/one_step"), help="folder of the weights of the reference"
    )
    options = parser.parse_args(arguments)
    sets, methods = chosen(options.sets, SETS, {}), chosen(options.methods, METHODS, GROUPS)
    cells = [(name, method, int(seed)) for seed in options.seeds.split(",") for name in sets for method in methods]
    if not options.tables:
        work = Cells(options.budget and seconds_of(options.budget), options.out, options.runs)
        run(work, cells[:: -1 if options.reverse else 1])
    print(report.write(options.out))


def chosen(text: str, known: Mapping[str, object], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The names in an option, with groups replaced by their members; ends the program at an unknown one."""
    names = [one for name in text.split(",") for one in groups.get(name, [name])]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"{unknown[0]!r} is not known; known are {', '.join([*known, *groups])}")
    return list(dict.fromkeys(names))


def run(work: Cells, cells: Sequence[Named]) -> None:
    """Run cells until each has a result; cells that other processes work on are looked at again later."""
    while cells:
        left = [cell for cell in cells if not work.done(*cell)]
        if len(left) == len(cells):
            work.wait()
        cells = left
