"""Section 6 of the post, "Faster sampling": one jump of a map instead of many steps of its velocity.

    python examples/12_faster_sampling.py

Trains iMF on handwritten digits for a few seconds (`examples/demo.py` trains for two minutes), then samples digits from
the same noise by jumps and by Euler steps, at one network call each. One jump is about as close to real digits
as the ODE with a hundred steps, in a hundredth of the time.
"""

from pathlib import Path

import torch
from _pictures import run, trained

import flowmaps as fm
from flowmaps.evaluate.cost import measured
from flowmaps.evaluate.distances import energy_distance
from flowmaps.figures.style import figure, light
from flowmaps.visualise import mosaic

COUNTS = {fm.steps.jump: (1, 2, 4, 8), fm.steps.euler: (1, 2, 4, 8, 16, 32, 100)}


def main(out: Path, steps: int = 500) -> dict[str, float]:
    data = fm.data.load("digits")
    flow = fm.recipes.small_images(data, width=128, depth=3)
    method = fm.methods.imf(diagonal=0.75, times=fm.times.uniform_triangle(1e-3), power=0)
    flow = trained(flow, method, data, steps)
    noise, real = torch.randn(500, *data.shape), data.held_out(500).x0
    samples, rows = {}, {}
    for step, counts in COUNTS.items():
        for n in counts:
            made = measured(
                flow.network, lambda rows, n=n, step=step: fm.sample(flow, noise[rows], n, step=step), 500, 500
            )
            samples[step, n] = made.x
            rows[step, n] = (
                energy_distance(made.x.flatten(1), real.flatten(1)),
                made.network_calls,
                made.seconds_per_sample,
            )
    floor = energy_distance(data.draw(500).x0.flatten(1), real.flatten(1))
    draw(out, data, samples, rows)
    names = {fm.steps.jump: "jumps", fm.steps.euler: "Euler steps"}
    found = {"energy distance of real digits to others (floor)": floor}
    for step, n in ((fm.steps.jump, 1), (fm.steps.jump, 4), (fm.steps.euler, 4), (fm.steps.euler, 100)):
        found[f"energy distance, {n} {names[step]}"] = rows[step, n][0]
        found[f"network calls, {n} {names[step]}"] = rows[step, n][1]
    found["time of 100 Euler steps / of one jump"] = rows[fm.steps.euler, 100][2] / rows[fm.steps.jump, 1][2]
    return found


def draw(out, data, samples, rows):
    jump, euler = fm.steps.jump, fm.steps.euler
    with figure(light, 12, 3, out, ncols=5, width_ratios=[1, 1, 1, 1, 1.4]) as (_, axes):
        chosen = (
            ("1 jump", (jump, 1)),
            ("4 jumps", (jump, 4)),
            ("4 Euler steps", (euler, 4)),
            ("100 Euler steps", (euler, 100)),
        )
        for axis, (title, key) in zip(axes, chosen, strict=False):
            axis.imshow(mosaic(data.to_pixels(samples[key][:25])).numpy())
            axis.set(title=title)
            axis.axis("off")
        for name, step in (("jumps", jump), ("Euler steps", euler)):
            axes[4].loglog(COUNTS[step], [rows[step, n][0] for n in COUNTS[step]], "-o", label=name)
        axes[4].set(title="Distance to real digits", xlabel="network calls", ylabel="energy distance")
        axes[4].legend()


if __name__ == "__main__":
    run(main)
