"""The effect of each part of the digits recipe, removed or replaced one at a time:  python -m benchmarks.digits_parts

Improved MeanFlow with one minute of training for each row, without compilation; measured at one jump as in
`benchmarks.digits`. There is one seed: differences within a few standard errors are not significant.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

import flowmaps as fm
from benchmarks.digits import UNIFORM, find, measured, trained
from benchmarks.tables import machine, markdown
from flowmaps.networks import MLP, InBasis, pca_basis
from flowmaps.recipes import small_images

SECONDS = 60.0
DIGITS = fm.data.load("digits")
ROWS = DIGITS.draw(10_000, seed=0).x0


def network() -> torch.nn.Module:
    """The network of the recipe."""
    return recipe().network


def rotated() -> torch.nn.Module:
    """An MLP in the principal axes."""
    return InBasis(MLP(DIGITS.shape, embedding=32), pca_basis(ROWS))


def bounded() -> fm.Bounded:
    """The output of the recipe."""
    return fm.Bounded(fm.GaussianSkip.fit(ROWS))


def imf(**options: object) -> fm.Method:
    """The method of the recipe, with some options replaced."""
    return fm.methods.imf(**{"diagonal": 0.75, "times": UNIFORM, "power": 0} | options)


def recipe() -> fm.FlowMap:
    """The whole recipe."""
    return small_images(DIGITS)


VARIANTS: dict[str, tuple[Callable[[], fm.FlowMap], Callable[[], fm.Method]]] = {
    "the recipe": (recipe, imf),
    "field not bounded": (lambda: fm.FlowMap(network(), fm.GaussianSkip.fit(ROWS)), imf),
    "no Gaussian skip": (lambda: fm.FlowMap(network(), fm.Bounded()), imf),
    "neither": (lambda: fm.FlowMap(network()), imf),
    "x not at the scale of the data": (lambda: fm.FlowMap(rotated(), bounded()), imf),
    "pixels instead of principal axes": (
        lambda: fm.FlowMap(MLP(DIGITS.shape, embedding=32), bounded()),
        imf,
    ),
    "adaptive weight, power 0.75": (recipe, lambda: imf(power=0.75)),
    "logit-normal times": (recipe, lambda: imf(times=fm.times.logit_normal_pairs())),
    "MeanFlow instead of iMF": (recipe, lambda: fm.methods.meanflow(times=UNIFORM, power=0)),
}


def main() -> None:
    """Run all variants and print the table."""
    classifier = fm.evaluate.train_classifier(DIGITS)
    lines = []
    for name, (make_flow, make_method) in VARIANTS.items():
        torch.manual_seed(0)
        state = trained(make_flow(), make_method(), 0, SECONDS)
        found = measured(state.ema, 0, classifier)
        row = find(found, "jump", 1)
        pairs = [(row["distance"], row["stderr"]), (row["rounded_distance"], row["rounded_distance_stderr"])]
        cells = [f"{value:.2f} +- {error:.2f}" for value, error in pairs]
        lines.append([name, *cells, f"{row['neighbour_ratio']:.2f}", str(state.step)])
        print(markdown(["", "Fréchet", "rounded", "neighbour ratio", "steps"], lines[-1:]), flush=True)
    floors = [f"{found[key]:.2f} +- {found[f'{key}_stderr']:.2f}" for key in ("floor", "rounded_distance_floor")]
    header = ["one jump", "Fréchet", "rounded", "neighbour ratio", "steps in a minute"]
    table = markdown(header, [*lines, ["data against data (floor)", *floors, "1.00", ""]])
    text = f"{table}\n\n{machine()}; command: python -m benchmarks.digits_parts\n"
    out = Path("benchmarks/results/digits/parts.md")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
