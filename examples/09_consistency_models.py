"""Section 5 of the post, "What about consistency models?": maps to t = 0 alone, and the bias of a finite step.

    python examples/09_consistency_models.py

CD, CT and ECT teach the map that two neighbouring points of a path have the same endpoint. CD takes the neighbour from
the velocity of a teacher, CT and ECT from the sampled pair itself. CD and CT use the same grid of 20 times here, and
the bias of CT pulls its dots together; ECT shrinks its step in training. Such a map can only jump to data, so several
steps need re-noising, and samples change colour on the way (second picture).

The last panel is the bias of the mean target at the exact map of a mixture, over the step s - m. The bias of CT is of
first order, because the endpoint is not linear in the velocity. The bias of CD is of first order by its Euler step; a
better solver raises the order. MeanFlow's target is linear in the velocity, so its mean is right. (Means given x_s, by
quadrature.)
"""

from pathlib import Path

import numpy as np
import torch
from _pictures import DATA, colours, destination, distance, dots, network, run, trained

import flowmaps as fm
from flowmaps.consistency import eulerian
from flowmaps.figures.style import figure, light
from flowmaps.velocity import Conditional, Pair

METHODS = {  # targets from the map itself, because an average is too slow for a short training
    "CD": fm.methods.cd(DATA.exact, points=20, ema=0.0),
    "CT": fm.methods.ct(points=lambda progress: 20, ema=0.0),
    "ECT": fm.methods.ect(),
}
LINE = fm.exact.GaussianMixture([0.4, 0.6], [-1.2, 1.0], 0.6)
STEPS = [0.16, 0.08, 0.04, 0.02, 0.01]


def main(out: Path, steps: int = 500) -> dict[str, float]:
    noise = torch.randn(2000, 2)
    truth, pictures, found = destination(noise), {}, {}
    for name, method in METHODS.items():
        flow = trained(network(DATA, only_target=0.0), method, DATA, steps)
        found[name] = distance(fm.sample(flow, noise), truth)
        pictures[f"{name}\nerror {found[name]:.2f}"] = fm.sample(flow, noise)
        if name == "CD":
            pictures["CD, 4 steps\nwith new noise"] = fm.sample(flow, noise, 4, step=fm.steps.restart, seed=1)
    biases = {name: [bias(name, step) for step in STEPS] for name in ("CT", "CD")}
    with figure(light, 12, 3, out, ncols=5) as (_, axes):
        for axis, (title, x) in zip(axes, pictures.items(), strict=False):
            dots(axis, x, title, colours(truth))
        for name, values in biases.items():
            axes[4].loglog(STEPS, values, "-o", label=name)
        axes[4].loglog(STEPS, [step / STEPS[-1] * biases["CD"][-1] / 2 for step in STEPS], "k:", label="first order")
        axes[4].set(title="Bias of\nthe target", xlabel="step s - m", xticks=[0.01, 0.1], xticklabels=["0.01", "0.1"])
        axes[4].minorticks_off()
        axes[4].legend(fontsize=10, loc="upper left")
        axes[4].set_ylim(top=30)
    return {f"distance of one jump from the exact one, {name}": error for name, error in found.items()} | {
        "CT: bias at a step of 0.02 / of 0.01": biases["CT"][3] / biases["CT"][4],
        "CD: bias at a step of 0.02 / of 0.01": biases["CD"][3] / biases["CD"][4],
        "CD with an exact solver: bias at a step of 0.01": bias("CD, exact solver", 0.01),
        "MeanFlow: bias": bias("MeanFlow", 0.02),
    }


def bias(name, step, s=0.7):
    """Root mean square over x_s of the mean target given x_s, less the truth, in units of velocity."""
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    ahead = {"CD": x - step * LINE.velocity(x, s), "CD, exact solver": LINE(x, s, s - step)}
    if name in ahead:
        return size((LINE(ahead[name], s - step, 0.0) - LINE(x, s, 0.0)) / step)
    weights, x0 = posterior(x, s)
    u = (x - x0) / s  # eps - x_0 at every node of the quadrature, (B, nodes)
    if name == "MeanFlow":  # the residual at every node
        rows, data = (value.reshape(-1, 1) for value in (x.expand_as(x0), x0))
        pair = Conditional(Pair(data, data + u.reshape(-1, 1), LINE.path, {}))
        residuals = eulerian(LINE, pair, rows, torch.full_like(rows, s), torch.zeros_like(rows))
        return size((weights * residuals.reshape(u.shape)).sum(1))
    reached = LINE((x - step * u).reshape(-1, 1), s - step, 0.0).reshape(u.shape)
    return size(((weights * reached).sum(1, keepdim=True) - LINE(x, s, 0.0)) / step)


def posterior(x, s, count=12):
    """Weights and nodes (B, 2 count) of a Gauss-Hermite quadrature over x_0 given x_s."""
    z, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(count))
    marginal = (1 - s) ** 2 * LINE.stds**2 + s**2
    means = LINE.means[:, 0] + (1 - s) * LINE.stds**2 / marginal * (x - (1 - s) * LINE.means[:, 0])  # (B, 2)
    nodes = means[..., None] + (LINE.stds * s / marginal.sqrt())[:, None] * z
    return (LINE.posterior(x, s)[..., None] * w / w.sum()).flatten(1), nodes.flatten(1)


def size(residual):
    return float(residual.square().mean().sqrt())


if __name__ == "__main__":
    run(main)
