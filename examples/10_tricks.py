"""Section 5 of the post, "Tricks of the trade": times, curricula, weights and an initialisation in pictures.

    python examples/10_tricks.py

Top: the source and target times (s, t) of four methods. Bottom: a curriculum of growing gaps; the grid size of CT and
iCT over training; the gradient of a residual under five weights; and one-jump errors of LSD in training, from new
weights and from the weights of a denoiser (a velocity network of one time, extended to two times by `two_times`).
"""

from pathlib import Path

import torch
from _pictures import DATA, destination, distance, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light
from flowmaps.methods.consistency_models import growing_points
from flowmaps.networks import ConcatMLP, two_times
from flowmaps.networks.embeddings import source_only

SAMPLERS = {
    "uniform: LSD, PSD": fm.times.uniform_triangle(),
    "logit-normal: MeanFlow": fm.times.logit_normal_pairs(),
    "gap first: Align Your Flow": fm.times.gap(),
    "dyadic: shortcut models": fm.times.dyadic(),
}
WEIGHTS = {
    "squared": fm.weight.squared,
    "adaptive: MeanFlow": fm.weight.adaptive(0.5),
    "normalised: sCM": fm.weight.normalised(),
    "pseudo-Huber: iCT": fm.weight.huber(0.3),
    "Cauchy: DMF": fm.weight.cauchy(),
}


def main(out: Path, steps: int = 400) -> dict[str, float]:
    like, found = torch.zeros(1), {}
    curves = learning_curves(steps)
    with figure(light, 12, 6.4, out, nrows=2, ncols=4) as (_, axes):
        for axis, (name, times) in zip(axes[0], SAMPLERS.items(), strict=True):
            s, t = times(3000, 0.0, like)
            axis.scatter(s, t, s=3, linewidths=0)
            found[f"mean gap, {name}"] = float((s - t).mean())
            axis.set(title=name, xlabel="source s", ylabel="target t", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        growing = fm.times.growing_gap(fm.times.uniform_triangle(), until=0.5)
        for progress in (0.4, 0.2, 0.05):
            s, t = growing(2000, progress, like)
            axes[1, 0].scatter(s, t, s=3, linewidths=0, label=f"after {progress:.0%}")
            found[f"largest gap after {progress:.0%} of training"] = float((s - t).max())
        axes[1, 0].set(title="Curriculum: growing gaps", xlabel="source s", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes[1, 0].legend(fontsize=10, markerscale=4)
        progress = torch.linspace(0, 0.999, 300).tolist()
        axes[1, 1].semilogy(progress, [growing_points()(p) for p in progress], label="CT")
        axes[1, 1].semilogy(progress, [10 * 2 ** int(8 * p) for p in progress], label="iCT")
        axes[1, 1].set(title="Curriculum: grid points", xlabel="progress of training")
        axes[1, 1].legend()
        r = torch.linspace(0, 2.5, 100)[:, None].requires_grad_()
        for name, weight in WEIGHTS.items():
            [slope] = torch.autograd.grad(weight(r, r[:, 0], r[:, 0]).sum(), r)
            axes[1, 2].plot(r.detach(), slope, label=name)
            found[f"gradient of a residual of 2.5, {name}"] = float(slope[-1])
        axes[1, 2].set(title="Weights: gradient", xlabel="residual r", ylim=(0, 9.5))
        axes[1, 2].legend(fontsize=10, loc="upper left")
        for name, curve in curves.items():
            axes[1, 3].plot(*zip(*curve.items(), strict=True), label=name)
            found[f"error of one jump at the end, from {name}"] = list(curve.values())[-1]
        axes[1, 3].set(title="Initialisation: error", xlabel="training step", ylim=(0, 1))
        axes[1, 3].legend()
    return found


def learning_curves(steps):
    """Step of LSD -> distance of one jump from the exact one, from new weights and from the weights of a denoiser."""
    noise = torch.randn(1000, 2)
    truth = destination(noise)
    one_time = fm.FlowMap(ConcatMLP(2, width=128, depth=3, times=source_only, data_std=DATA.std))
    denoiser = trained(one_time, fm.methods.flow_matching(), DATA, steps)
    new = ConcatMLP(2, width=128, depth=3, times=fm.networks.embeddings.gap, data_std=DATA.std)
    curves = {}
    for name, network in (("new weights", new), ("a denoiser", two_times(denoiser.network))):
        states = fm.train(fm.FlowMap(network), fm.methods.lsd(), DATA, steps=steps, lr=5e-3, progress_bar=False)
        every = max(1, steps // 20)
        curves[name] = {
            state.step: distance(fm.sample(state.flow, noise), truth) for state in states if state.step % every == 0
        }
    return curves


if __name__ == "__main__":
    run(main)
