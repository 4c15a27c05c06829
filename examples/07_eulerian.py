"""Section 5 of the post, "Eulerian methods": the source moves along its path, and the endpoint stays.

    python examples/07_eulerian.py

Four ways to distil the velocity of eight Gaussians into jumps, each trained for a few seconds:

- EMD keeps the gradient through the derivative
- AYF-EMD stops all gradients except the one through V, and normalises the residual
- FACM does the same for t = 0 only, and anchors the map to the velocity by a second loss
- CTM compares two jumps that start a finite step apart, after a further jump to t = 0

Left is the exact flow map. Dots of one colour come from noise that belongs to one Gaussian, so a good one-jump picture
has eight clusters of one colour each. At the exact map the losses of EMD and FACM are zero. The loss of CTM is zero up
to the error of its step, the loss of AYF-EMD up to the last percent of its warm-up, which stops at 0.99.
"""

from pathlib import Path

from _pictures import DATA, compare, run

import flowmaps as fm

METHODS = {
    "EMD": (fm.methods.emd(DATA.exact), {}),
    "AYF-EMD": (fm.methods.ayf_emd(DATA.exact), {}),
    "FACM": (fm.methods.facm(DATA.exact), {}),
    "CTM": (fm.methods.ctm(DATA.exact), {}),
}


def main(out: Path, steps: int = 500) -> dict[str, float]:
    return compare(out, METHODS, steps)


if __name__ == "__main__":
    run(main)
