"""Section 6.4 of the post, "Fast likelihoods": one call of a flow map gives a sample and its log-density (F2D2).

    python examples/19_joint_likelihood.py

A joint map of the state and its log-density, and an invertible map (FALCON), beside the exact law of eight Gaussians.
"""

import torch
from _pictures import DATA, network, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

TIMES = fm.times.both_directions(fm.times.uniform_triangle())


def main(out, steps=600):
    x0 = DATA.exact.sample(1000, torch.Generator().manual_seed(1)).float()
    exact, z = DATA.exact.log_prob(x0), torch.randn(1000, 2)
    head = fm.networks.DivergenceHead(2, 64, 2, data_std=DATA.std, waves=64)
    method = fm.methods.f2d2(fm.methods.lmd(DATA.exact, times=TIMES), divergence=fm.likelihood.exact(chunk=1))
    joint = trained(fm.likelihood.joint_map(network(DATA), x0, head), method, DATA, steps)
    falcon = trained(network(DATA), fm.methods.falcon(), DATA, steps)
    numbers, curves = {}, {}
    for name, flow, by in (("joint", joint, fm.likelihood.joint), ("FALCON's jumps", falcon, fm.likelihood.jumps)):
        errors = []
        for n in (1, 2, 4, 8):
            found = fm.likelihood.log_prob(flow, x0, by=by(n))
            errors.append(float((found.value - exact).abs().nanmean()))
            numbers[f"mean |log p - exact|, {name}, {n}"] = errors[-1]
        curves[name] = errors
    ode = fm.likelihood.log_prob(joint, x0[:200], by=fm.likelihood.ode(steps=20))
    numbers["mean |log p - exact|, ODE of the joint map, 80 calls"] = float((ode.value - exact[:200]).abs().mean())
    sample, log_prob = fm.likelihood.sample(joint, z, 2, by="head")
    numbers["samples: mean |log p - exact|, joint, 2 jumps"] = float(
        (log_prob - DATA.exact.log_prob(sample)).abs().mean()
    )
    state = fm.likelihood.invertibility(falcon, z, 1)
    numbers |= {"FALCON: smallest determinant": state.smallest_determinant, "FALCON: cycle error": state.cycle_error}
    with figure(light, 11, 4.4, out, ncols=2) as (_, axes):
        axes[0].scatter(*sample.T, c=log_prob, s=4, rasterized=True)
        axes[0].set_title("samples by their log-density, 2 calls", loc="left")
        for name, errors in curves.items():
            axes[1].loglog((1, 2, 4, 8), errors, "o-", label=name)
        axes[1].set(xlabel="jumps", title="mean error of log p in nats")
        axes[1].legend()
    return numbers


if __name__ == "__main__":
    run(main)
