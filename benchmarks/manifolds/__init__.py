"""Flow maps on the globe and on a torus:  python -m benchmarks.manifolds [--sets A,B] [--models A,B] [--splits N]

The same network (an MLP of width 128 and depth 3) is trained for 30 s of processor time by Riemannian flow matching,
by generalised flow maps (Lagrangian, progressive and Eulerian self-distillation) and by Riemannian MeanFlow:

- on `zonal`, a law with an exact flow map (`fm.exact.Zonal`);
- on earthquakes, volcanoes and fires on the globe, on seven torsion angles of RNA, and on airports if the package
  `airportsdata` is installed. A tenth of the distinct points is held out, so that no test point was trained on.

Maps are sampled by 1, 2 and 4 jumps, and by 1 and 50 Euler steps of their own velocity. Measured are the unbiased
squared MMD to held-out points with the kernel exp(-d^2) of geodesic distances d, beside its floor, the same for
training points; the biased metric of the papers, with its floor; and on `zonal` the distance of jumps to the exact map.

Every cell, a method on a set with a split, is a JSON file in `--out`, and is not run again. --tables only rebuilds
tables and pictures.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.manifolds --splits 5
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import parsed, parser_of
from benchmarks.manifolds import report
from benchmarks.manifolds.cells import Cells
from benchmarks.manifolds.models import CONTROLS, MODELS, models_of
from benchmarks.manifolds.sets import SECONDS, SETS, is_here

ALL = MODELS | CONTROLS
OUT = Path("benchmarks/results/manifolds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells without a result, and write the tables and pictures."""
    parser = parser_of(__doc__, SETS, ALL, SECONDS, OUT)
    parser.add_argument("--splits", type=int, default=5, help="number of splits, each with its seed (default: 5)")
    options = parsed(parser, arguments, SETS, ALL)
    if not options.tables:
        cells = Cells(options.out, options.seconds)
        for split in range(options.splits):
            for name in options.sets:
                if not is_here(name):
                    print(f"{name}: its package is not installed, so it is not measured")
                    continue
                for model in filter(models_of(name).__contains__, options.models):
                    cells.run(name, model, split)
    print(report.write(options.out))
