"""Section 3 of the post, "To backprop or not to backprop?": the derivative inside a loss, and its cost.

    python examples/04_derivatives.py

Left: the Eulerian rule needs dV/ds + grad_x V . v. Forward mode (a JVP) gives it to the last digit. Finite differences
have an error of order h (one-sided) or h^2 (central), and a round-off of order 1/h that dominates for small h: in
float32 below a few thousandths. Right: the cost of a loss and its backward pass in forward passes, counted in matrix
products (a forward pass is 1, its backward pass 2, so a plain loss is 3). A stopped derivative costs one more pass, a
derivative with gradients three more, and finite differences cost a forward and a backward pass for every evaluation.
"""

from pathlib import Path

import torch
from _pictures import run
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from flowmaps.derivative import detached, finite_difference, jvp, stop
from flowmaps.figures.style import figure, light

DATA = fm.exact.GaussianMixture([0.4, 0.6], [-1.6, 1.3], 0.3)
MODES = {
    "JVP, stopped\n(detached)": detached,
    "JVP with\ngradients (jvp)": jvp,
    "finite difference,\none-sided": finite_difference(1e-3, central=False),
    "finite difference,\ncentral": finite_difference(1e-2),
}


def main(out: Path, steps: int = 12) -> dict[str, float]:
    sizes = torch.logspace(-4, -1, steps, dtype=torch.float64).tolist()
    x = torch.randn(256, 1, dtype=torch.float64)
    s, t = torch.full_like(x, 0.7), torch.full_like(x, 0.3)
    tangents = (DATA.velocity(x, s), 1, 0)
    exact = -(DATA.average_velocity(x, s, t) - DATA.velocity(x, s)) / (s - t)  # by the Eulerian rule

    def error(derivative, dtype=torch.float64):
        inputs = [value.to(dtype) for value in (x, s, t)]
        _, d = derivative(DATA.average_velocity, inputs, (tangents[0].to(dtype), 1, 0))
        return float((d - exact).square().mean().sqrt())

    curves = {
        f"{name}, {str(dtype)[6:]}": [error(finite_difference(h, central=central), dtype) for h in sizes]
        for dtype in (torch.float64, torch.float32)
        for name, central in (("one-sided", False), ("central", True))
    }
    floor, costs = error(jvp), {name: cost(derivative) for name, derivative in MODES.items()}
    draw(out, sizes, curves, floor, costs)
    found = {"error of the JVP": floor}
    for name, central in (("one-sided", False), ("central", True)):
        twice, once = (error(finite_difference(h, central=central)) for h in (0.04, 0.02))
        found[f"{name}: error at h = 0.04 / at h = 0.02"] = twice / once
    return found | {f"forward passes, {name.replace(chr(10), ' ')}": value for name, value in costs.items()}


def cost(derivative):
    """Matrix products of a loss with this derivative and its backward pass, in units of one forward pass."""
    flow = fm.FlowMap(fm.networks.ConcatMLP(256, width=256, depth=8))
    x, s, t = torch.randn(8, 256), torch.full((8, 1), 0.7), torch.full((8, 1), 0.3)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        flow.average_velocity(x, s, t)
    with FlopCounterMode(display=False) as whole:
        V, dV = derivative(flow.average_velocity, (x, s, t), (stop(flow.velocity)(x, s), 1, 0))
        (V - (t - s) * dV).square().mean().backward()
    return whole.get_total_flops() / forward.get_total_flops() - 1  # less the pass for the velocity


def draw(out, sizes, curves, floor, costs):
    with figure(light, 13, 4.4, out, ncols=2) as (_, axes):
        for (name, values), colour in zip(curves.items(), light.series[:2] * 2, strict=True):
            axes[0].loglog(sizes, values, "-o" if "64" in name else ":o", color=colour, markersize=4, label=name)
        axes[0].axhline(floor, color=light.text, linestyle="--", label="JVP, float64")
        axes[0].set(title="Error of finite differences by step", xlabel="step h", ylabel="error of dV/ds + ...")
        axes[0].legend(fontsize=10)
        bars = axes[1].barh(list(costs), list(costs.values()), color=light.series[0])
        axes[1].bar_label(bars, fmt=" %.1f")
        axes[1].invert_yaxis()
        axes[1].set(title="Loss and backward pass, in forward passes", xlim=(0, 1.15 * max(costs.values())), xticks=[])


if __name__ == "__main__":
    run(main)
