"""Section 4 of the post, "Training flow maps from scratch": self-distillation, and marginal-from-conditional learning.

    python examples/05_from_scratch.py

There is no teacher, only samples of eight Gaussians. LSD learns the velocity on most rows and distils it into jumps on
the others. MeanFlow and improved MeanFlow (iMF) use the velocity eps - x_0 of single pairs for jumps too, because only
its mean given x_s matters. They differ in the direction of the derivative: eps - x_0 in MeanFlow, the map's own
velocity in iMF. The colour of a sample shows where the exact flow map would take its noise.

The fifth panel is the loss of both at the exact flow map of a mixture, for s = 0.8: only the noise of eps - x_0 is
left. In iMF it equals the noise in flow matching for every t; in MeanFlow it is magnified where paths diverge. The last
panel is iMF's W = V + (s - t) (dV/ds + grad_x V . v), which is v(x, s) at the exact map. (The post prints (t - s); its
own starting identity, V = v + (t - s) (...), gives (s - t).)
"""

from pathlib import Path

import torch
from _pictures import DATA, colours, destination, dots, network, run, trained

import flowmaps as fm
from flowmaps.consistency import eulerian
from flowmaps.derivative import jvp
from flowmaps.figures.style import figure, light
from flowmaps.velocity import Conditional, Pair

TRIANGLE = fm.times.uniform_triangle()
METHODS = {
    "LSD": fm.methods.lsd(),
    "MeanFlow": fm.methods.meanflow(diagonal=0.5, times=TRIANGLE, power=0),
    "iMF": fm.methods.imf(diagonal=0.5, times=TRIANGLE, power=0),
}


def main(out: Path, steps: int = 600) -> dict[str, float]:
    noise = torch.randn(2000, 2)
    real, again = DATA.held_out(2000).x0, DATA.draw(2000, seed=1).x0
    distance = fm.evaluate.distances.energy_distance
    samples, found = {"data": real}, {"energy distance of fresh data (floor)": distance(again, real)}
    for name, method in METHODS.items():
        flow = trained(network(DATA), method, DATA, steps)
        samples[f"{name}, one jump"] = x = fm.sample(flow, noise)
        found[f"energy distance of one jump, {name}"] = distance(x, real)
    targets, losses, signs = at_the_exact_map()
    draw(out, samples, colours(destination(noise)), targets, losses, signs)
    return found | {f"loss at the exact map for s = 0.8, t = 0, {name}": losses[name][-1] for name in losses} | signs


def at_the_exact_map():
    """At s = 0.8: the losses of MeanFlow and iMF by target time, and the root mean square of W - v at t = 0."""
    exact = fm.exact.GaussianMixture([0.4, 0.6], [-1.2, 1.0], 0.45)
    x0, s = exact.sample(500), torch.full((500, 1), 0.8, dtype=torch.float64)
    eps = torch.randn_like(x0)
    x, pair = fm.path.linear.interpolate(x0, eps, s), Conditional(Pair(x0, eps, fm.path.linear, {}))
    targets = torch.linspace(0.8, 0, 5, dtype=torch.float64).tolist()
    square = lambda residual: float(residual.square().mean())  # noqa: E731
    losses = {
        "flow matching": [square(exact.velocity(x, s) - (eps - x0)) for _ in targets],
        "MeanFlow": [square(eulerian(exact, pair, x, s, torch.full_like(s, t))) for t in targets],
        "iMF": [square(eulerian(exact, pair, x, s, torch.full_like(s, t), along=exact)) for t in targets],
    }
    v, t = exact.velocity(x, s), torch.zeros_like(s)
    V, slope = jvp(exact.average_velocity, (x, s, t), (v, 1, 0))
    return (
        targets,
        losses,
        {
            "W - v at the exact map, with (s - t)": square(V + (s - t) * slope - v) ** 0.5,
            "W - v at the exact map, with (t - s)": square(V + (t - s) * slope - v) ** 0.5,
            "2 (V - v), the error of the other sign": 2 * square(V - v) ** 0.5,
        },
    )


def draw(out, samples, by_end, targets, losses, signs):
    with figure(light, 11, 7, out, nrows=2, ncols=3) as (_, axes):
        for axis, (title, x) in zip(axes.flat, samples.items(), strict=False):
            dots(axis, x, title, light.muted if title == "data" else by_end)
        for (name, values), style in zip(losses.items(), ("k--", "-o", "-s"), strict=True):
            axes[1, 1].plot(targets, values, style, label=name, zorder=3 if "k" in style else 2)
        axes[1, 1].set(title="Loss at the exact map, s = 0.8", xlabel="target time t", ylim=(0, None), xlim=(0.8, 0))
        axes[1, 1].legend()
        bars = axes[1, 2].bar(["(s - t)", "(t - s)"], list(signs.values())[:2], color=light.series[:2])
        axes[1, 2].bar_label(bars, fmt="%.2g")
        axes[1, 2].set(title="iMF's sign: W - v at the exact map", yticks=[], ylim=(0, 2.5))


if __name__ == "__main__":
    run(main)
