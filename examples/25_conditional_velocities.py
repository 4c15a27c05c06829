"""Section 4 of the post, "Marginal-from-conditional learning": the mean of many velocities is the right one.

    python examples/25_conditional_velocities.py

Many pairs of data and noise pass through one point, each with its own velocity eps - x_0. Their mean is the velocity
of the flow, v(x, s) = E[eps - x_0 | x_s = x]. A loss that is linear in the velocity, evaluated at the sampled point,
may use the velocity of the sampled pair therefore. The data is a mixture of two Gaussians, whose velocity is known.
"""

from pathlib import Path

import torch
from _pictures import run

import flowmaps as fm
from flowmaps.figures.style import figure, light

DATA = fm.exact.GaussianMixture([0.4, 0.6], [-1.6, 1.3], 0.3)
X, S, NEAR = 0.35, 0.6, 0.01
"""The point, its time, and the distance within which a pair passes through it."""


def main(out: Path, steps: int = 400_000) -> dict[str, float]:
    """`steps`: the number of pairs that are drawn."""
    x0, eps = DATA.sample(steps), torch.randn(steps, 1, dtype=torch.float64)
    here = (((1 - S) * x0 + S * eps - X).abs() < NEAR).flatten()
    x0, eps = x0[here], eps[here]
    v = eps - x0
    exact = float(DATA.velocity(torch.tensor([[X]], dtype=torch.float64), S))
    with figure(light, 11, 4.2, out, ncols=2, width_ratios=[1.5, 1]) as (_, axes):
        for a, b in zip(x0[:60, 0], eps[:60, 0], strict=True):
            axes[0].plot([1, 0], [b, a], color=light.series[0], linewidth=0.8, alpha=0.35)
        axes[0].plot([], [], color=light.series[0], linewidth=0.8, label="pairs of noise and data through x")
        times = torch.linspace(S, 0, 100, dtype=torch.float64)
        start = torch.full((100, 1), X, dtype=torch.float64)
        axes[0].plot(times, DATA(start, S, times), color=light.text, label="path of the flow")
        axes[0].plot([S, 0], [X, X - S * exact], color=light.series[1], linewidth=4, label="mean velocity")
        axes[0].plot(S, X, "o", color=light.text, zorder=5)
        axes[0].annotate("x", (S, X), (-4, 9), textcoords="offset points")
        axes[0].set(xlim=(1, 0), ylim=(-2.6, 4.3), xlabel="time", title="Many pairs pass through one point")
        axes[0].set_xticks([1, S, 0], ["1\nnoise", "s", "0\ndata"])
        axes[0].legend(loc="upper right", fontsize=10)
        axes[1].hist(-v[:, 0].numpy(), 60, color=light.series[0], alpha=0.5, density=True)
        axes[1].axvline(-float(v.mean()), color=light.series[1], linewidth=4, label="their mean")
        axes[1].axvline(-exact, color=light.text, linestyle="--", label="velocity of the flow, exact")
        axes[1].set(title="Their velocities towards data", xlabel="x_0 - eps", yticks=[])
        axes[1].set_ylim(top=1.35 * axes[1].get_ylim()[1])
        axes[1].legend(loc="upper left", fontsize=10)
    return {
        "velocity of the flow, exact": exact,
        "mean of the velocities of pairs": float(v.mean()),
        "its standard error": float(v.std()) / len(v) ** 0.5,
        "standard deviation of the velocities of pairs": float(v.std()),
        "pairs": float(len(v)),
    }


if __name__ == "__main__":
    run(main)
