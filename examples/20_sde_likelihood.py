"""Section 6 of the post, "Fast likelihoods": a claim about likelihoods by stochastic equations, and its repairs.

    python examples/20_sde_likelihood.py

Two runs of dx = v dt, one with noise e dW, part by delta. Does the growth of |delta|^2 give the divergence of v?
"""

import torch
from _pictures import COLOURS, run

import flowmaps as fm
from flowmaps.figures.style import figure, light

L, J = fm.likelihood, torch.tensor([[1.0, 0.6], [0.0, -2.0]]).double()
LAW = fm.exact.GaussianMixture([0.5, 0.3, 0.2], [[-1.5, 0.5], [1.2, 1.0], [0.3, -1.4]], [0.4, 0.3, 0.5])


def main(out, steps=200, runs=4000, e=1e-3):
    delta, claim, kept = torch.zeros(runs, 2).double(), torch.zeros(1).double(), []
    for k in range(steps):
        claim = claim + 2 * (delta * (delta @ J.T)).sum(1).mean() / steps  # the claim: d |delta|^2 = 2 delta.J delta dt
        delta = delta + delta @ J.T / steps + e * torch.randn(runs, 2).double() / steps**0.5
        S, square = delta.T @ delta / runs, delta.square().sum(1).mean()
        plain, white = 2 * (J @ S).trace() / S.trace(), (torch.linalg.inv(S) @ J @ S).trace()
        kept.append([(k + 1) / steps, square / e**2, float(claim) / e**2, plain, white])
    t, grown, claimed, plain, white = torch.tensor(kept).T
    x = LAW.sample(400).double()
    exact, renewed = LAW.log_prob(x), L.log_prob(LAW, x, by=L.ode(L.differences(16, h=1e-3), steps=20))
    lines = [
        {"measured": grown, "claimed": claimed, "claimed + D t": claimed + 2 * t},
        {"by delta": plain, "by whitened delta": white, "tr J": 0 * t - 1},
    ]
    with figure(light, 12, 3.6, out, ncols=3) as (_, axes):
        for axis, shown in zip(axes, lines, strict=False):
            for k, (label, y) in enumerate(shown.items()):
                axis.plot(t, y, label=label, ls="-" if k < 2 else "--", lw=2)
        axes[2].plot([-6, -1], [-6, -1], c=light.muted, lw=1)
        axes[2].scatter(exact, renewed.value, s=5, c=COLOURS[0], label="a new delta in every step")
        axes[2].set(xlabel="log p, exact", title="log p, estimated")
        axes[0].set(xlabel="time", title="mean of |delta|² / e²")
        axes[1].set(xlabel="time", title="the trace of J, estimated")
        [axis.legend() for axis in axes]
    found = {
        "mean of |delta|^2 / e^2, measured": grown[-1],
        "mean of |delta|^2 / e^2, claimed": claimed[-1],
        "mean of |delta|^2 / e^2, claimed + D": claimed[-1] + 2,
        "trace -1, by delta": plain[-1],
        "trace -1, by whitened delta": white[-1],
        "log p with a new delta in every step, mean error": (renewed.value - exact).mean(),
        "log p with a new delta in every step, standard error of a row": renewed.standard_error.mean(),
        "log p by the bound, 64 draws, mean error": (L.log_prob(LAW, x, by=L.bound(64)).value - exact).mean(),
    }
    return {name: float(number) for name, number in found.items()}


if __name__ == "__main__":
    run(main)
