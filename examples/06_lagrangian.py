"""Section 5 of the post, "Lagrangian methods": the target moves, and the map moves with the velocity at the target.

    python examples/06_lagrangian.py

Four ways to distil the velocity of eight Gaussians into jumps, each trained for a few seconds:

- LMD keeps every gradient, through the derivative and through the teacher too
- AYF-LMD stops all gradients except the one through V, and normalises the residual
- PID and BOOT learn without data: they start from noise alone (s = 1) and use finite differences, PID with gradients,
  BOOT as one Euler step of the teacher at the end of a jump

Left is the exact flow map. Dots of one colour come from noise that belongs to one Gaussian, so a good one-jump picture
has eight clusters of one colour each. At the exact map the loss of LMD is zero. The losses of PID and BOOT are zero up
to the error of their finite steps, the loss of AYF-LMD up to the last percent of its warm-up, which stops at 0.99.
"""

from pathlib import Path

from _pictures import DATA, compare, run

import flowmaps as fm

METHODS = {
    "LMD": (fm.methods.lmd(DATA.exact), {}),
    "AYF-LMD": (fm.methods.ayf_lmd(DATA.exact), {}),
    "PID": (fm.methods.pid(DATA.exact), {"only_source": 1.0}),
    "BOOT": (fm.methods.boot(DATA.exact), {"only_source": 1.0}),
}


def main(out: Path, steps: int = 500) -> dict[str, float]:
    return compare(out, METHODS, steps)


if __name__ == "__main__":
    run(main)
