"""What the examples share: the command line, how numbers are printed, a short training, and dots in the plane."""

import argparse
import inspect
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch

import flowmaps as fm
from flowmaps.visualise.style import light

COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5230", "#5b6672"]
"""Apart for every kind of colour vision (Okabe and Ito 2008)."""


def run(main: Callable[[Path, int], dict[str, float]]) -> None:
    """main(out, steps) from the command line; it draws into `out` and returns numbers, which are printed."""
    name = Path(inspect.getfile(main)).stem
    parser = argparse.ArgumentParser(
        description=inspect.getmodule(main).__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = inspect.signature(main).parameters["steps"].default
    parser.add_argument("--out", type=Path, default=Path(f"runs/examples/{name}.png"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=default, help="fewer are faster and worse (default: %(default)s)")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # such small matrices are faster on one core than on two that wait for each other
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for what, number in main(options.out, options.steps).items():
        print(f"{what:<72}{number:>12.4g}")
    print(f"wrote {options.out}")


def trained(flow, method, data, steps, **options):
    """The flow map with averaged weights at the end of a short training."""
    options = {"lr": 8e-3, "ema": 0.98} | options
    states = fm.train(flow, method, data, steps=steps, progress_bar=False, **options)
    return deque(states, maxlen=1)[0].ema


def ends(exact, noise):
    """A colour for each noise: that of the component of a mixture which the exact flow map takes it to."""
    nearest = torch.cdist(exact.flow_map(noise, 1.0, 0.0), exact.means.to(noise)).argmin(1)
    return [COLOURS[k] for k in nearest]


def dots(axis, x, title, colours=light.series[0], extent=3.0):
    """Samples in the plane, (N, 2), each in its colour."""
    axis.scatter(x[:, 0], x[:, 1], s=4, c=colours, linewidths=0, alpha=0.7)
    axis.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[], title=title)
