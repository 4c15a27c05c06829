"""The demo of the README: train a flow map on handwritten digits, sample it in one step, and write a report.

    python examples/demo.py

Run it again to resume after an interruption. All its files are in the run folder.
"""

import argparse
from pathlib import Path

import torch

import flowmaps as fm
from flowmaps.cli.tables import print_evaluation
from flowmaps.recipes import small_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="training time (default: 120)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)  # small matrices are faster on one core
    data = fm.data.load("digits")
    flow, method = small_images(data), fm.recipes.method_for(data)
    for _ in fm.train(
        flow, method, data, seconds=options.seconds, schedule=fm.training.WarmUpStableDecay(), labels=False,
        out=options.out, resume=(options.out / "config.json").exists(),
    ):  # fmt: skip
        pass

    print("Measuring one jump, a few jumps, and many small steps of the same network ...", flush=True)
    fm.visualise.report(options.out)
    print_evaluation(fm.evaluate.read_evaluation(options.out))


if __name__ == "__main__":
    main()
