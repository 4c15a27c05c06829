"""Section 2 of the post, "Three notions of consistency": three residuals that are zero for the true flow map only.

    python examples/03_consistency_rules.py

- compositional: one jump is two jumps
- Lagrangian: the target moves, and the output moves with the velocity there
- Eulerian: the source moves along its path, and the output stays

All three vanish at the exact flow map of a mixture. Then the map is perturbed, V + amount (s - t) cos 2x: its velocity
(s = t) stays right, its jumps become wrong. The heat maps show the residual of each rule. The Lagrangian and Eulerian
rules compare the map with the true velocity, the compositional rule compares it with itself. On the right, the
residuals grow in proportion to the error, so a gradient leads back to the exact map.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from _pictures import run

import flowmaps as fm
from flowmaps.consistency import compositional, eulerian, lagrangian
from flowmaps.figures.style import SHADES, figure, light

TRUTH = fm.exact.GaussianMixture([0.4, 0.6], [-1.2, 1.0], 0.45)


@dataclass
class Bent:
    """The exact map with an error in its jumps."""

    amount: float

    def average_velocity(self, x, s, t):
        return TRUTH.average_velocity(x, s, t) + self.amount * (s - t) * torch.cos(2 * x)


RULES = {  # every rule is a function (flow, teacher, x, s, t) -> residual
    "compositional": lambda flow, x, s, t: compositional(flow, flow, x, s, t),
    "Lagrangian": lambda flow, x, s, t: lagrangian(flow, TRUTH, x, s, t),
    "Eulerian": lambda flow, x, s, t: eulerian(flow, TRUTH, x, s, t),
}


def main(out: Path, steps: int = 16) -> dict[str, float]:
    line = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    s, t = (time.flatten() for time in torch.meshgrid(line, line, indexing="ij"))
    below = t <= s  # from noise to data
    s, t = s[below].repeat(24)[:, None], t[below].repeat(24)[:, None]
    x = fm.path.linear.interpolate(TRUTH.sample(len(s)), torch.randn_like(s), s)

    def residual(rule, amount):
        """Root mean square over x for each pair of times."""
        return RULES[rule](Bent(amount), x, s, t).reshape(24, -1).square().mean(0).sqrt()

    amounts = (0.0, 0.05, 0.1)
    found = {(rule, amount): residual(rule, amount) for rule in RULES for amount in amounts}
    draw(out, line, below, {rule: found[rule, 0.1] for rule in RULES}, found, amounts)
    return {f"{rule} residual at the exact map": float(found[rule, 0.0].max()) for rule in RULES} | {
        f"{rule} residual, map bent by 0.1 / by 0.05": float(found[rule, 0.1].mean() / found[rule, 0.05].mean())
        for rule in RULES
    }


def draw(out, line, below, bent, found, amounts):
    with figure(light, 13, 3.6, out, ncols=4) as (made, axes):
        for axis, (rule, values) in zip(axes, bent.items(), strict=False):
            grid = torch.full((len(line), len(line)), float("nan"), dtype=torch.float64)
            grid.view(-1)[below] = values / values.max()
            mesh = axis.imshow(grid.T.numpy(), origin="lower", extent=(0, 1, 0, 1), cmap=SHADES, vmin=0)
            axis.set(
                title=f"{rule}, up to {values.max():.2f}", xlabel="from: source time s", xticks=[0, 1], yticks=[0, 1]
            )
            axes[3].plot(amounts, [found[rule, amount].mean() for amount in amounts], marker="o", label=rule)
        axes[0].set(ylabel="to: target time t")
        made.colorbar(mesh, ax=axes[:3], label="share of the largest", pad=0.02)
        axes[3].set(title="Mean residual", xlabel="error added to the map")
        axes[3].legend()


if __name__ == "__main__":
    run(main)
