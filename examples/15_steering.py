"""Section 6 of the post, "Efficient steering": a trained flow map is steered by a measurement that it never saw.

    python examples/15_steering.py

Here y = a.x0 + 0.2 n. The denoised state as look-ahead collapses; a widened likelihood does not; particles are right.
"""

import torch
from _pictures import DATA, dots, network, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

A, Y, STD = torch.tensor([[0.8, 0.6]]), torch.tensor([0.5]), 0.2


def main(out, steps=1200):
    flow, noise = trained(network(DATA), fm.methods.lmd(DATA.exact), DATA, steps), torch.randn(1000, 2)
    reward = fm.rewards.Likelihood(A, Y, STD)
    posterior, log_z = DATA.exact.tilted(fm.rewards.Likelihood(A.double(), Y.double(), STD))
    point, wide = (fm.steering.value(reward, look) for look in (fm.look.denoise, fm.look.widened(0.5)))
    particles = fm.steering.particles(flow, noise, 60, reward=reward, value=wide, seed=0)
    drawn = {
        "one jump, not steered": fm.sample(flow, noise),
        "a point as look-ahead": fm.sample(fm.steering.tilt(flow, point), noise, 60, step="heun"),
        "widened": fm.sample(fm.steering.tilt(flow, wide), noise, 60, step="heun"),
        "particles": particles.resampled(seed=0),
        "FMRG, 8 jumps": fm.sample(flow, noise, 8, step=fm.steering.fmrg(reward, relative=1.0)),
        "the posterior": posterior.sample(1000).float(),
    }
    with figure(light, 12.6, 2.9, out, ncols=len(drawn)) as (_, axes):
        for axis, (name, x) in zip(axes, drawn.items(), strict=True):
            dots(axis, x, name)
    residuals = {f"residual / noise, {k}": float((x @ A.T - Y).norm() / STD / len(x) ** 0.5) for k, x in drawn.items()}
    return residuals | {"log p(y), particles": float(particles.log_z), "log p(y), exact": float(log_z)}


if __name__ == "__main__":
    run(main)
