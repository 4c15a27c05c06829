"""Section 5 of the post, "Compositional methods": one jump is two jumps, without derivatives.

    python examples/08_compositional.py

Three ways to distil the velocity of eight Gaussians into jumps, and one from scratch, each trained for a few seconds:

- SplitMeanFlow takes the velocity from the teacher on half of the rows, and splits jumps anywhere on the others
- PFMM doubles the longest jump from phase to phase; its teacher is the flow itself at the end of the previous phase
- progressive distillation halves the number of steps from phase to phase, down to a single one
- shortcut models learn the velocity and its jumps together, from jumps of half the length, without a teacher

Left is the exact flow map. Dots of one colour come from noise that belongs to one Gaussian, so a good one-jump picture
has eight clusters of one colour each. At the exact map the losses are zero (in the last phase, for methods with
phases), except the loss of shortcut models, which is the variance of eps - x_0 given x_s.
"""

from pathlib import Path

from _pictures import DATA, compare, run

import flowmaps as fm

METHODS = {
    "SplitMeanFlow": (fm.methods.splitmeanflow(DATA.exact), {}),
    "PFMM": (fm.methods.pfmm(DATA.exact, phases=4), {}),
    "progressive": (fm.methods.progressive_distillation(DATA.exact, levels=5), {}),
    "shortcut": (fm.methods.shortcut(ema=0.95), {}),
}


def main(out: Path, steps: int = 500) -> dict[str, float]:
    return compare(out, METHODS, steps)


if __name__ == "__main__":
    run(main)
