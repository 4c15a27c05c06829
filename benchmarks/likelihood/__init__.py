"""Log-densities in few calls:  python -m benchmarks.likelihood [--sets A,B] [--tables]

On two laws in the plane, whose log-density is known, and on the handwritten digits, three maps with the network of
`flowmaps train` are trained for the same processor time: flow matching, a joint map (F2D2) and an invertible map
(FALCON). Their log-densities of held-out data at 1, 2, 4, 8 and 16 network calls are compared with a reference: the
exact log-density, or on the digits the ODE of the same map with the exact trace.

- Euler and Heun sums of the divergence along the ODE of flow matching, which are no densities of any law,
- jumps of the invertible map, with the log-determinant of each,
- jumps of the joint map, with its head,
- the variational bound of flow matching, with as many draws as calls (an even number, so from 2 on).

A derivative is no call: a call of the sums and of the jumps computes 1 + D forward passes for D values in a row; the
tables have both numbers. Digits are dequantised, in training and in evaluation, and not bounded to [-1, 1].

Every cell, a map on a set with a seed, is a JSON file in `--out`, and is not run again. --tables only rebuilds tables
and pictures. `--part cost` counts and times training steps of the joint map beside the plain method.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.likelihood
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.likelihood import cost, report
from benchmarks.likelihood.cells import MAPS, Cells
from benchmarks.likelihood.sets import SETS

OUT = Path("benchmarks/results/likelihood")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells without a result, and write the tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help="(default: all)")
    parser.add_argument("--maps", default=",".join(MAPS), help="(default: all)")
    parser.add_argument("--seeds", default="0", help="(default: 0)")
    parser.add_argument("--part", choices=("maps", "cost"), help="(default: both)")
    parser.add_argument("--seconds", type=float, help="processor time of each training (default: by set)")
    parser.add_argument("--tables", action="store_true", help="only rebuild tables and pictures from the results")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/likelihood"))
    options = parser.parse_args(arguments)
    if not options.tables and options.part != "cost":
        cells = Cells(options.out, options.runs, options.seconds)
        for name in options.sets.split(","):
            for seed in map(int, options.seeds.split(",")):
                for kind in options.maps.split(","):
                    cells.run(name, kind, seed)
    if not options.tables and options.part != "maps":
        cost.run(options.out)
    print(report.write(options.out))
