"""Section 6.4 of the post, "Fast likelihoods": one call of a flow map gives a sample and its log-density.

    python examples/19_joint_likelihood.py

A joint map of state and log-density (F2D2), and an invertible map (FALCON), beside the exact law of eight Gaussians.
"""

import torch
from _pictures import DATA, network, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light
from flowmaps.likelihood import exact, gap, head, invertibility, joint, joint_map, jumps, log_prob, ode, sample

TIMES = fm.times.both_directions(fm.times.uniform_triangle())
HEAD = dict(width=64, depth=2, data_std=DATA.std, waves=64)
JUMPS = (1, 2, 4, 8)


def main(out, steps=600):
    x0, z = DATA.exact.sample(1000).float(), torch.randn(1000, 2)
    method = fm.methods.f2d2(fm.methods.lmd(DATA.exact, times=TIMES), divergence=exact(chunk=1))
    flow = joint_map(network(DATA), x0, fm.networks.DivergenceHead(2, **HEAD))
    flow, falcon = trained(flow, method, DATA, steps), trained(network(DATA), fm.methods.falcon(), DATA, steps)
    curves = {"joint": [log_prob(flow, x0, by=joint(n)) for n in JUMPS]}
    curves["FALCON's jumps"] = [log_prob(falcon, x0, by=jumps(n)) for n in JUMPS]
    errors = {
        k: [(one.value - DATA.exact.log_prob(x0)).abs().nanmean() for one in curve] for k, curve in curves.items()
    }
    samples, densities = sample(flow, z, 2, by=head)
    with figure(light, 11, 4.4, out, ncols=2) as (_, axes):
        axes[0].scatter(*samples.T, c=densities, s=4, rasterized=True)
        axes[0].set(title="samples by their log-density, 2 calls", aspect="equal")
        for name, curve in errors.items():
            axes[1].loglog(JUMPS, curve, "o-", label=name)
        axes[1].set(title="mean error of log p in nats", xlabel="jumps")
        axes[1].legend()
    beside, state = gap(flow, x0[:200], 2, by=ode(steps=20)), invertibility(falcon, z, 1)
    found = {
        f"mean |log p - exact|, {k}, {n}": float(e) for k, c in errors.items() for n, e in zip(JUMPS, c, strict=True)
    }
    found["mean |log p - exact|, ODE, 80 calls"] = float(
        (beside.reference - DATA.exact.log_prob(x0[:200])).abs().mean()
    )
    found["mean |joint - ODE|, 2"] = beside.mean_absolute
    found["samples, 2 calls: mean |log p - exact|"] = float((densities - DATA.exact.log_prob(samples)).abs().mean())
    return found | {"determinant, smallest": state.smallest_determinant, "cycle error": state.cycle_error}


if __name__ == "__main__":
    run(main)
