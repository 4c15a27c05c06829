"""Section 6 of the post, "Efficient steering and post-training": weights that follow a reward need one jump.

    python examples/17_post_training.py

The map of eight Gaussians follows the reward r(x) = x_1. Direct backpropagation moves no weight between modes.
"""

import copy

import torch
from _pictures import DATA, dots, network, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

REWARD = fm.rewards.Linear(torch.tensor([1.0, 0.0]))


def main(out, steps=1200):
    flow, noise = trained(network(DATA), fm.methods.lmd(DATA.exact), DATA, steps), torch.randn(2000, 2)
    ways = {
        "tilting": (fm.methods.tilting(REWARD, 1.0, flow, draws=2), DATA),
        "a steered teacher": (fm.methods.lmd(fm.steering.tilt(flow, fm.steering.value(REWARD))), DATA),
        "filtered samples": (fm.methods.imf(), fm.data.filtered(flow, DATA, REWARD, 4000, beta=1.0)),
        "direct backpropagation": (fm.methods.reward_backpropagation(REWARD, 1.0, flow), DATA),
    }
    drawn = {"before": fm.sample(flow, noise)}
    for name, (method, data) in ways.items():
        drawn[name] = fm.sample(trained(copy.deepcopy(flow).requires_grad_(), method, data, steps // 2, 1e-3), noise)
    drawn["the tilted law"] = DATA.exact.tilted(fm.rewards.Linear(REWARD.c.double()))[0].sample(2000).float()
    with figure(light, 12.6, 2.9, out, ncols=len(drawn)) as (_, axes):
        for axis, (name, x) in zip(axes, drawn.items(), strict=True):
            dots(axis, x, f"{name}\nmean reward {REWARD(x).mean():.2f}")
    means = {f"mean reward, {name}": float(REWARD(x).mean()) for name, x in drawn.items()}
    return means | {f"share at the right, {name}": float((x[:, 0] > 0.7).float().mean()) for name, x in drawn.items()}


if __name__ == "__main__":
    run(main)
