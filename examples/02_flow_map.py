"""Section 1 of the post, "Cartography: mapping paths with a flow map": F, V, v and f from one object.

    python examples/02_flow_map.py

An exact mixture of Gaussians answers all four questions, as a `FlowMap` around a network does:

    F(x, s, t)  the point at time t of the path through x at time s       flow(x, s, t)
    V(x, s, t)  the average velocity from s to t, (F - x)/(t - s)         flow.average_velocity(x, s, t)
    v(x, t)     the velocity, V(x, t, t)                                  flow.velocity(x, t)
    f(x, t)     the denoiser E[x_0 | x_t = x], here x - t v(x, t)         flow.denoise(x, t)

Left: all four at one point. The velocity points along the tangent, which meets t = 0 at the denoised x; the average
velocity is the slope of the chord, which meets the path. Right: any number of jumps ends at the same point. Euler steps
leave the path, and the error shrinks with the step.
"""

from pathlib import Path

import torch
from _pictures import run

import flowmaps as fm
from flowmaps.figures.style import figure, light

flow = fm.exact.GaussianMixture([0.4, 0.6], [-1.6, 1.3], 0.3)


def main(out: Path, steps: int = 128) -> dict[str, float]:
    noise = torch.randn(500, 1, dtype=torch.float64)
    ends = fm.sample(flow, noise)  # one jump

    def error(n, step):
        return float((fm.sample(flow, noise, n, step=step) - ends).abs().mean())

    counts = [2**k for k in range(1, steps.bit_length())]
    errors = {
        "Euler": [error(n, fm.steps.euler) for n in counts],
        "Heun": [error(n, fm.steps.heun) for n in counts],
        "jumps": [error(n, fm.steps.jump) for n in counts],
    }
    x, s, t = torch.tensor([[0.35]], dtype=torch.float64), 0.85, 0.2
    F, V, v, f = flow(x, s, t), flow.average_velocity(x, s, t), flow.velocity(x, s), flow.denoise(x, s)
    draw(out, (x, s, t), (F, v, f), counts, errors)
    return {
        "F(x, s, t) - [x + (t - s) V(x, s, t)]": float(F - (x + (t - s) * V)),
        "v(x, s) - V(x, s, s)": float(v - flow.average_velocity(x, s, s)),
        "f(x, s) - [x - s v(x, s)]": float(f - (x - s * v)),
        "F(F(x, s, t), t, s) - x, there and back": float(flow(F, t, s) - x),
        "error of one Euler step": error(1, fm.steps.euler),
        "Euler: error at half the steps / error": errors["Euler"][-2] / errors["Euler"][-1],
        "Heun: error at half the steps / error": errors["Heun"][-2] / errors["Heun"][-1],
        "error of jumps, the largest": max(errors["jumps"]),
    }


def draw(out, where, values, counts, errors):
    x, s, t, F, v, f = (float(value) for value in (*where, *values))
    times = torch.linspace(1, 0, 200, dtype=torch.float64)
    with figure(light, 11, 4.4, out, ncols=2) as (_, axes):
        for start in torch.linspace(-2.2, 2.2, 12):
            axes[0].plot(times, flow(start.double().expand(200, 1), 1.0, times), color=light.rule)
        axes[0].plot(times, flow(where[0].expand(200, 1), s, times), color=light.text, label="path")
        axes[0].plot([s, 0], [x, f], color=light.series[0], label="tangent: velocity v(x, s)")
        axes[0].plot([s, t], [x, F], color=light.series[1], label="chord: average velocity V(x, s, t)")
        for at, height, name, colour in ((s, x, "x", 4), (t, F, "F(x, s, t)", 1), (0, f, "f(x, s)", 0)):
            axes[0].plot(at, height, "o", color=light.series[colour], clip_on=False, zorder=5)
            axes[0].annotate(name, (at, height), (2, 8), textcoords="offset points", ha="right" if at else "left")
        axes[0].set(xlim=(1, 0), ylim=(-2.6, 3.6), title="Four views of one path", xlabel="time", ylabel="x")
        axes[0].set_xticks([1, s, t, 0], ["1\nnoise", "s", "t", "0\ndata"])
        axes[0].legend(loc="upper left", fontsize=10)
        for (name, values), marker in zip(errors.items(), "os^", strict=True):
            axes[1].loglog(counts, values, marker=marker, label=name)
        axes[1].set(title="Distance to the end of one jump", xlabel="steps from noise to data", ylabel="mean error")
        axes[1].legend()


if __name__ == "__main__":
    run(main)
