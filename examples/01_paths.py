"""Section 1 of the post, "Sampling from diffusion models" and "Dead reckoning": two ways from noise to data.

    python examples/01_paths.py

The data is a mixture of two Gaussians on a line. Its denoiser and velocity are closed forms, so nothing is trained.
Stochastic (ancestral) sampling takes jagged paths, deterministic sampling (the ODE) smooth ones that never cross. Yet
at every time both have the same distribution, the exact one (third panel).
"""

from pathlib import Path

import torch
from _pictures import run

import flowmaps as fm
from flowmaps.figures.style import figure, light

DATA = fm.exact.GaussianMixture([0.4, 0.6], [-1.6, 1.3], 0.3)
SAMPLERS = {"Stochastic: ancestral": fm.steps.ancestral, "Deterministic: ODE": fm.steps.euler}


def main(out: Path, steps: int = 400) -> dict[str, float]:
    noise = torch.randn(20_000, 1, dtype=torch.float64)
    noise[:5, 0] = torch.tensor([-1.7, -0.8, 0.1, 0.9, 1.9])  # the five drawn paths
    states = {
        name: torch.stack(fm.trajectory(DATA, noise, steps, step=step, seed=0)).squeeze(2)  # (times, samples)
        for name, step in SAMPLERS.items()
    }
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    draw(out, times, states)
    return numbers(states, steps // 2)


def draw(out, times, states):
    line = torch.linspace(-3.3, 3.3, 300, dtype=torch.float64)
    density = torch.stack([DATA.log_prob(line[:, None], t).exp() for t in times], dim=1)
    with figure(light, 13, 4.2, out, ncols=3) as (_, axes):
        for axis, (name, x) in zip(axes, states.items(), strict=False):
            axis.pcolormesh(times, line, density.sqrt().numpy(), cmap="Greys", vmax=1.6, rasterized=True)
            axis.plot(times, x[:, :5], linewidth=1.6)
            axis.set(xlim=(1, 0), ylim=(-3.3, 3.3), title=name, xlabel="time", ylabel="x")
            axis.set_xticks([1, 0.5, 0], ["1\nnoise", "0.5", "0\ndata"])
        middle = len(times) // 2
        for step, shift in ((middle, 0), (-1, 1)):
            for (name, x), colour in zip(states.items(), light.series, strict=False):
                heights, edges = torch.histogram(x[step], 60, range=(-3.3, 3.3), density=True)
                label = name.split(":")[0].lower() if step == middle else None
                axes[2].stairs(heights + shift, edges, baseline=shift, color=colour, linewidth=1.6, label=label)
            exact = DATA.log_prob(line[:, None], times[step]).exp()
            axes[2].plot(line, exact + shift, "--", color="black", linewidth=1.2, label=None if shift else "exact")
        axes[2].set(title="The same distribution at every time", xlabel="x", ylim=(0, 2.1))
        axes[2].set_yticks([0, 1], ["t = 0.5", "t = 0\ndata"])
        axes[2].legend(loc="upper left", fontsize=10)


def numbers(states, middle):
    found = {"P(x_0 > 0), exact": 0.6}
    for name, x in states.items():
        found[f"P(x_0 > 0), {name}"] = float((x[-1] > 0).double().mean())
        found[f"standard deviation of x_0.5, {name}"] = float(x[middle].std())
    data_variance = 0.3**2 + 0.4 * 0.6 * (1.3 + 1.6) ** 2
    found["standard deviation of x_0.5, exact"] = (0.25 * data_variance + 0.25) ** 0.5
    order = states["Deterministic: ODE"][0].argsort()
    found["paths of the ODE that cross"] = float((states["Deterministic: ODE"][:, order].diff(dim=1) <= 0).sum())
    return found


if __name__ == "__main__":
    run(main)
