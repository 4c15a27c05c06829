"""Section 6 of the post, "Fast likelihoods": what a trained flow map knows about probability, in one call or many.

    python examples/18_likelihood.py

The map is trained in both directions. The law of the data is known, so every error is seen.
"""

import torch
from _pictures import DATA, network, run, trained

import flowmaps as fm
from flowmaps.figures.style import SHADES, figure, light

L = fm.likelihood
BY = {
    "ODE, 200 calls": L.ode(L.exact(chunk=1)),
    "one jump": L.jumps(1, chunk=1),
    "4 jumps": L.jumps(4, chunk=1),
    "bound, 64 calls": L.bound(64),
}


def main(out, steps=1200):
    both = fm.times.both_directions(fm.times.uniform_triangle())
    flow = trained(network(DATA), fm.methods.lmd(DATA.exact, times=both), DATA, steps).eval()
    x0, found = DATA.exact.sample(1000).float(), {}
    exact = DATA.exact.log_prob(x0)
    points = torch.cartesian_prod(*[torch.linspace(-3, 3, 80)] * 2)
    shown = {"exact": DATA.exact.log_prob(points)}
    for name, by in BY.items():
        result = L.log_prob(flow, x0, by=by)
        error = (result.value - exact)[result.value.isfinite()]
        found |= {f"mean |log p - exact|, {name}": error.abs().mean(), f"folded rows, {name}": len(x0) - len(error)}
        if "calls" not in name or "ODE" in name:
            shown[name] = L.log_prob(flow, points, by=by).value
    for jumps in (1, 4):  # samples with their log-densities, and weights that make them exact
        x, log_p = L.sample(flow, torch.randn(2000, 2), jumps, chunk=1)
        weighted = L.importance(log_p, -DATA.exact.log_prob(x))
        found |= {f"effective share of samples, {jumps} jumps": weighted.ess, f"log Z, {jumps} jumps": weighted.log_z}
    with figure(light, 12, 3.4, out, ncols=len(shown)) as (_, axes):
        for axis, (name, value) in zip(axes, shown.items(), strict=True):
            axis.imshow(value.exp().nan_to_num().reshape(80, 80).T, origin="lower", vmin=0, vmax=0.23, cmap=SHADES)
            axis.set(title=name, xticks=[], yticks=[])
    return {name: float(number) for name, number in found.items()}


if __name__ == "__main__":
    run(main)
