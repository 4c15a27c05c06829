"""Section 7 of the post, "Alternative strategies": methods that match distributions choose their own link to the noise.

    python examples/26_alternatives.py

Two methods learn one jump from noise to eight Gaussians, each from two starts: the usual one, a jump that hardly moves
the noise, and a turned one, a jump that sends the noise to the opposite side. Dots of one colour come from noise that
belongs to one Gaussian on the paths of the diffusion model.

- LSD learns these paths. From both starts the colours end where the exact map has them.
- Drifting models match the distribution alone. From both starts the samples lie near the data, but the colours depend
  on the start: nothing in the loss links a noise sample to its data sample.
"""

import copy
from pathlib import Path

import torch
from _pictures import DATA, colours, destination, distance, dots, network, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

METHODS = {"LSD": fm.methods.lsd, "drifting": fm.methods.drifting}


def main(out: Path, steps: int = 500) -> dict[str, float]:
    noise = torch.randn(2000, 2)
    truth = destination(noise)
    starts = {"usual start": network(DATA), "turned start": turned(network(DATA))}
    pictures, found = {"exact\nflow map": truth}, {}
    for name, method in METHODS.items():
        for start, flow in starts.items():
            x = fm.sample(trained(copy.deepcopy(flow), method(), DATA, steps), noise)
            found[f"distance from the exact jump, {name}, {start}"] = distance(x, truth)
            found[f"energy distance to the data, {name}, {start}"] = energy(x)
            pictures[f"{name}\n{start}"] = x
    with figure(light, 11, 2.9, out, ncols=len(pictures)) as (_, axes):
        for axis, (title, x) in zip(axes, pictures.items(), strict=True):
            dots(axis, x, title, colours(truth))
    return found


def turned(flow, steps=300):
    """The flow map after a short regression of its jump from noise to data on the negative noise."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for _ in range(steps):
        noise = torch.randn(256, 2)
        loss = (flow(noise, 1.0, 0.0) + noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow


def energy(x):
    """Energy distance to as many samples of the data."""
    return float(fm.evaluate.energy_distance(x, DATA.exact.sample(len(x)).to(x)))


if __name__ == "__main__":
    run(main)
