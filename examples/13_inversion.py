"""Section 2 of the post, on compositionality: a flow map is its own inverse. From data to noise, and back.

    python examples/13_inversion.py

Distils the velocity of eight Gaussians by LMD, in both directions of time (`times.both_directions`; most maps are only
trained towards data). One jump then takes data to its noise, and another takes it back. The interpolation between two
data points follows the great circle between their noises. Colours mark the Gaussians of the data.
"""

from pathlib import Path

import torch
from _pictures import DATA, colours, distance, dots, network, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light


def main(out: Path, steps: int = 1200) -> dict[str, float]:
    method = fm.methods.lmd(DATA.exact, times=fm.times.both_directions(fm.times.uniform_triangle()))
    flow = trained(network(DATA), method, DATA, steps)
    x0 = DATA.held_out(2000).x0
    noise = fm.invert(flow, x0)  # one jump, t = 0 to t = 1
    back = fm.sample(flow, noise)
    a, b = (DATA.exact.means[k].float() + 0.2 * torch.randn(6, 2) for k in (0, 3))
    between = fm.interpolate(flow, a, b, n=40)  # (40, 6, 2)
    draw(out, x0, noise, back, between)
    exact = DATA.exact.flow_map(x0, 0.0, 1.0)
    there_and_back = [fm.sample(flow, fm.invert(flow, x)) for x in (a, b)]
    return {
        "size of the data": distance(x0, 0 * x0),
        "distance of data from the result of two jumps, there and back": distance(back, x0),
        "distance of its noise from the exact one": distance(noise, exact),
        "standard deviation of the noise": float(noise.std()),
        "standard deviation of the exact noise": float(exact.std()),
        "interpolation at a, distance from a there and back": distance(between[0], there_and_back[0]),
        "interpolation at b, distance from b there and back": distance(between[-1], there_and_back[1]),
    }


def draw(out, x0, noise, back, between):
    with figure(light, 11, 3.2, out, ncols=4) as (_, axes):
        for axis, x, title in zip(
            axes, (x0, noise, back), ("data", "its noise, by one jump", "and back, by another"), strict=False
        ):
            dots(axis, x, title, colours(x0), extent=3.4)
        dots(axes[3], x0, "between two, via noise", light.rule, extent=3.4)
        axes[3].plot(between[..., 0], between[..., 1], "-", linewidth=1.2, color=light.text)
        axes[3].scatter(between[[0, -1], :, 0], between[[0, -1], :, 1], s=30, color=light.series[1], zorder=3)


if __name__ == "__main__":
    run(main)
