"""One jump to a whole text:  python -m benchmarks.text [--sets A,B] [--models A,B] [--seconds N] [--tables]

On windows of the King James Bible (27 symbols; the Book of Revelation is held out) models with one and the same
transformer are trained for the same processor time:

- flow maps of every discrete method, sampled by 1, 2, 4, 8 and 16 jumps, and by Euler steps of their own velocity,
- a diffusion model of one-hot rows (cross-entropy on the diagonal alone), sampled by Euler steps,
- a masked diffusion model, sampled by unmasking,
- an autoregressive transformer, sampled symbol by symbol.

Of the samples the total variation of 4-grams to the training text, the entropy of the symbols and the share of known
words are measured, each beside the same measure of held-out text; of the models, bits a character on held-out text: by
the variational bound, or exactly for the autoregressive one.

Every cell, a model on a set with a seed, is a JSON file in `--out`, and is not run again. --tables only rebuilds tables
and pictures.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.text
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import parsed, parser_of
from benchmarks.text import report
from benchmarks.text.cells import Cells
from benchmarks.text.models import MODELS
from benchmarks.text.sets import SECONDS, SETS

OUT = Path("benchmarks/results/text")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells without a result, and write the tables and pictures."""
    parser = parser_of(__doc__, SETS, MODELS, SECONDS, OUT)
    parser.add_argument("--seeds", default="0", help="(default: 0)")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/text"), help="folder of the weights")
    options = parsed(parser, arguments, SETS, MODELS)
    if not options.tables:
        cells = Cells(options.out, options.runs, options.seconds)
        for seed in map(int, options.seeds.split(",")):
            for name in options.sets:
                for model in options.models:
                    cells.run(name, model, seed)
    print(report.write(options.out))
