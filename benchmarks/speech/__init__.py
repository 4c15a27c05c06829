"""One jump a frame of speech:  python -m benchmarks.speech [--sets A,B] [--models A,B] [--seconds N] [--tables]

An autoregressive model with one and the same backbone, a recurrent network over log-mel frames, and several heads, each
trained for the same processor time:

- flow-map heads (`methods.lsd` and `methods.imf` with a learned weight), sampled by 1 jump, 4 jumps and 16 Euler steps
  of their velocities,
- a head that predicts the next frame by its mean square error,
- a head that predicts a mixture of Gaussians of the next frame.

`digits` are ten spoken digits of espeak-ng in 91 voices; `voice` are 25 minutes of one real voice. Debian has both:

    apt-get install espeak-ng asterisk-core-sounds-en-wav

Measured are the energy distance of (previous, next) frames to recordings with the floor of recordings against
recordings, the energy score of the next frame, the share of generated digits that a classifier recognises, which is
trained on other recordings, and the time for a second of sound on one core.

Every cell, a head on a set with a seed, is a JSON file in `--out`, and is not run again. --tables only rebuilds tables
and pictures.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.speech
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import parsed, parser_of
from benchmarks.speech import report
from benchmarks.speech.cells import SECONDS, Cells
from benchmarks.speech.heads import HEADS
from benchmarks.speech.pictures import picture
from benchmarks.speech.sets import SETS

OUT = Path("benchmarks/results/speech")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cells without a result, and write the tables and pictures."""
    parser = parser_of(__doc__, SETS, HEADS, SECONDS, OUT)
    parser.add_argument("--seeds", default="0", help="(default: 0)")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/speech"), help="recordings and weights")
    options = parsed(parser, arguments, SETS, HEADS)
    if not options.tables:
        cells = Cells(options.out, options.runs, options.seconds)
        for seed in map(int, options.seeds.split(",")):
            for name in options.sets:
                for head in options.models:
                    cells.run(name, head, seed)
        if "digits" in options.sets:
            picture(options.out, options.runs, options.seconds)
    print(report.write(options.out))
