"""The moving picture of the README: the same noise becomes digits, by one jump and by many small steps.

    make demo
    python examples/moving_picture.py [--run runs/demo] [--out docs/images/jump.gif]

One network makes all three films: a flow map jumps, and its velocity is a diffusion model, which needs small steps.
"""

import argparse
from pathlib import Path

import flowmaps as fm

STEPS, COUNT, SEED = 50, 25, 3
WAYS = {
    "Flow map: one jump": (1, fm.steps.jump),
    "Diffusion: one step": (1, fm.steps.euler),
    f"Diffusion: {STEPS} steps": (STEPS, fm.steps.euler),
}


def calls(count):
    """Network calls in words."""
    return "1 network call" if count == 1 else f"{count} network calls"


def main(run, out):
    flow = fm.load(run)
    noise = fm.noise(flow, COUNT, seed=SEED)
    films, captions = {}, {}
    for title, (steps, step) in WAYS.items():
        films[title] = [(x + 1) / 2 for x in fm.trajectory(flow, noise, steps, step=step)]
        captions[title] = [calls(k) for k in range(steps + 1)]
    fm.visualise.animate(films, out, captions=captions, seconds=5.0, hold=3.0)
    print(f"wrote {out}, {out.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a run on images (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/images/jump.gif"), help="default: %(default)s")
    options = parser.parse_args()
    main(options.run, options.out)
