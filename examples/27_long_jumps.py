"""Section 8 of the post, "Closing thoughts": the longer the jump, the harder it is to learn.

    python examples/27_long_jumps.py

One flow map of eight Gaussians, trained by Lagrangian self-distillation for a few seconds. Its jumps are compared with
the exact ones, from points of the paths at source time s to target time t. Left: the error over both times grows away
from the diagonal. Right: the error by the length of the jump, early in training and late.
"""

from pathlib import Path

import torch
from _pictures import DATA, network, run

import flowmaps as fm
from flowmaps.figures.style import SHADES, figure, light

CELLS = 12


def main(out: Path, steps: int = 600) -> dict[str, float]:
    edges = torch.linspace(0, 1, CELLS + 1)
    line = (edges[1:] + edges[:-1]) / 2
    noise = torch.randn(500, 2)
    paths = [DATA.exact.flow_map(noise, 1.0, float(t)) for t in line]  # the states of exact paths at all times
    kept = {round(steps * share): None for share in (0.1, 0.3, 1.0)}
    for state in fm.train(network(DATA), fm.methods.lsd(), DATA, steps=steps, lr=5e-3, ema=0.98, progress_bar=False):
        if state.step in kept:
            kept[state.step] = errors(state.ema, line, paths)
    *_, last = kept.values()
    draw(out, line, last, kept)
    short, long = by_length(last)[[1, -1]]
    return {"error of the shortest jumps": float(short), "error of the longest jumps": float(long)}


@torch.no_grad()
def errors(flow, line, paths):
    """Root mean square distance of jumps along exact paths for each s (rows) and t < s (columns); else NaN."""
    found = torch.full((CELLS, CELLS), float("nan"))
    for a, s in enumerate(line):
        for b, t in enumerate(line[: a + 1]):
            found[a, b] = (flow(paths[a], s, t) - paths[b]).square().sum(1).mean().sqrt()
    return found


def by_length(found):
    """Mean error by the number of cells between s and t."""
    return torch.stack([found.diagonal(-k).mean() for k in range(CELLS)])


def draw(out, line, last, kept):
    with figure(light, 11, 4.4, out, ncols=2, width_ratios=[1, 1.3]) as (made, axes):
        mesh = axes[0].imshow(last.T.numpy(), origin="lower", extent=(0, 1, 0, 1), cmap=SHADES, vmin=0)
        axes[0].set(title="Error of a jump from s to t", xlabel="from: source time s", ylabel="to: target time t")
        made.colorbar(mesh, ax=axes[0])
        length = [0, *(line[1:] - line[0]).tolist()]
        for step, found in kept.items():
            axes[1].plot(length, by_length(found), "-o", label=f"after {step} training steps")
        axes[1].set(title="The longer, the harder", xlabel="length of the jump, s - t", ylabel="error")
        axes[1].set_ylim(bottom=0)
        axes[1].legend(loc="upper left", fontsize=10)


if __name__ == "__main__":
    run(main)
