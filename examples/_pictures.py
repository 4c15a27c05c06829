"""Shared parts of the examples: command line, printed numbers, a short training, one-jump pictures."""

import argparse
import copy
import inspect
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import flowmaps as fm
from flowmaps.data.toys import eight_gaussians
from flowmaps.figures.style import figure, light
from flowmaps.visualise import mosaic

DATA = eight_gaussians(std=0.3)
"""Data of the examples: eight Gaussians on a circle, with a known flow map."""

COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5230", "#5b6672"]
"""Distinct for every kind of colour vision (Okabe and Ito 2008)."""


def run(main: Callable[[Path, int], dict[str, float]]) -> None:
    """Run main(out, steps) from the command line; it draws into `out` and returns numbers, which are printed."""
    name = Path(inspect.getfile(main)).stem
    parser = argparse.ArgumentParser(
        description=inspect.getmodule(main).__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = inspect.signature(main).parameters["steps"].default
    parser.add_argument("--out", type=Path, default=Path(f"runs/examples/{name}.png"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=default, help="fewer: faster, but worse (default: %(default)s)")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # small matrices are faster on one core
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name, number in main(options.out, options.steps).items():
        print(f"{name:<72}{number:>12.4g}")
    print(f"wrote {options.out}")


def network(data, **limits):
    """Small flow map for points. `limits`: keyword arguments of `FlowMap` for a partial map."""
    return fm.FlowMap(fm.networks.ConcatMLP(data.shape, width=128, depth=3, data_std=data.std), **limits)


def trained(flow, method, data, steps, lr=5e-3, **settings):
    """The flow map with averaged weights at the end of a short training."""
    states = fm.train(flow, method, data, steps=steps, lr=lr, ema=0.98, progress_bar=False, **settings)
    return deque(states, maxlen=1)[0].ema


def destination(noise):
    """Endpoint of the noise under the exact flow map."""
    return DATA.exact.flow_map(noise, 1.0, 0.0)


def colours(truth):
    """Colour of each row, by its nearest Gaussian."""
    return [COLOURS[k] for k in torch.cdist(truth, DATA.exact.means.to(truth)).argmin(1)]


def distance(x, y):
    """Root mean square distance of the rows."""
    return float((x - y).square().sum(1).mean().sqrt())


def dots(axis, x, title, colour=light.series[0], extent=3.0):
    """Samples in the plane, (N, 2), each in its colour."""
    axis.scatter(x[:, 0], x[:, 1], s=4, c=colour, linewidths=0, alpha=0.7)
    axis.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[], title=title)


def images(axis, pixels, columns, title):
    """Rows of images (N, C, H, W), as a mosaic of so many columns."""
    axis.imshow(mosaic(pixels, columns).numpy())
    axis.set(title=title)
    axis.axis("off")


def psnr(x, truth):
    """Peak signal-to-noise ratio in dB, of images in [-1, 1]."""
    return 10 * math.log10(4 / float((x - truth).square().mean()))


class Truth(nn.Module):
    """Exact distribution as a network that predicts the average velocity, for `FlowMap(Truth(exact))`."""

    def __init__(self, exact):
        super().__init__()
        self.exact = exact
        self.error = nn.Parameter(torch.zeros(()))  # a weight, because averages and copies of the network need one

    def forward(self, x, s, t):
        return self.exact.average_velocity(x, s, t) + self.error


def compare(out, methods, steps):
    """Train a flow map by each method, and draw its jump from the same noise beside the exact flow map.

    methods: name -> (method, limits), with the limits as keyword arguments of `FlowMap` for a partial map. Returns the
    root mean square distance of each from the exact flow map, and the loss of each method at the exact flow map.
    """
    noise, found = torch.randn(2000, 2), {}
    truth = destination(noise)
    with figure(light, 2.2 * (1 + len(methods)), 2.9, out, ncols=1 + len(methods)) as (_, axes):
        dots(axes[0], truth, "exact\nflow map", colours(truth))
        for axis, (name, (method, limits)) in zip(axes[1:], methods.items(), strict=True):
            exact, untrained = fm.FlowMap(Truth(DATA.exact), **limits), copy.deepcopy(method)
            there = untrained.loss(exact, DATA.exact.sample(64), progress=1.0)  # with all curricula at their end
            flow = trained(network(DATA, **limits), method, DATA, steps)
            ones = fm.sample(flow, noise)
            dots(axis, ones, f"{name}\nerror {distance(ones, truth):.2f}", colours(truth))
            found[f"distance of one jump from the exact one, {name}"] = distance(ones, truth)
            found[f"loss at the exact flow map, {name}"] = there.value.item()
    return found | {"distance between noise and data, for comparison": distance(noise, truth)}
