"""Section 2 of the post, "Three notions of consistency": the three rules as routes that must end at one point.

    python examples/24_three_rules.py

Grey are the paths of an exact mixture of two Gaussians. The flow map is a wrong one: its jumps are bent. Each rule
compares two routes, and the gap between their ends, in red, is its residual:

- compositional: one long jump, and two short ones
- Lagrangian: the target moves, and the endpoint has to move with the velocity there
- Eulerian: the start moves along its path, and the endpoint has to stay

For the exact flow map the gaps are zero, the Lagrangian one up to the error of its finite step.
"""

from pathlib import Path

import torch
from _pictures import run

import flowmaps as fm
from flowmaps.figures.style import figure, light

TRUTH = fm.exact.GaussianMixture([0.4, 0.6], [-1.6, 1.3], 0.3)
X, S, T = 0.35, 0.9, 0.15
BLUE, ORANGE = light.series[:2]
RED = "#c1121f"
BEND = 1.4
"""Size of the error of the wrong map."""


def jump(x, s, t, bend):
    """The exact jump with an error that grows with its length."""
    x = torch.as_tensor(x, dtype=torch.float64).reshape(1, 1)
    return float(TRUTH(x, s, t) + bend * (s - t) ** 2 * torch.cos(2 * x))


def compositional(bend):
    """Points (t, x) of one jump and of two."""
    middle = jump(X, S, 0.5, bend)
    return [(S, X), (T, jump(X, S, T, bend))], [(S, X), (0.5, middle), (T, jump(middle, 0.5, T, bend))]


def lagrangian(bend, step=0.2):
    """Points of a jump to the moved target, and of a jump that goes on with the velocity at its end."""
    end = jump(X, S, T + step, bend)
    v = float(TRUTH.velocity(torch.tensor([[end]], dtype=torch.float64), T + step))
    return [(S, X), (T, jump(X, S, T, bend))], [(S, X), (T + step, end), (T, end - step * v)]


def eulerian(bend, step=0.25):
    """Points of a jump from the start, and of a jump from a later point of its path."""
    later = jump(X, S, S - step, 0)
    return [(S, X), (T, jump(X, S, T, bend))], [(S, X), (S - step, later), (T, jump(later, S - step, T, bend))]


RULES = {
    "Compositional": (compositional, "one jump", "two jumps"),
    "Lagrangian": (lagrangian, "jump to a later target", "jump, then the velocity"),
    "Eulerian": (eulerian, "jump from the start", "along the path, then jump"),
}


def main(out: Path, steps: int = 200) -> dict[str, float]:
    times = torch.linspace(1, 0, steps, dtype=torch.float64)
    starts = torch.linspace(-1, 2.6, 16, dtype=torch.float64)
    grey = [TRUTH(start.expand(steps, 1), 1.0, times) for start in starts]
    exact = TRUTH(torch.full((steps, 1), X, dtype=torch.float64), S, times)
    with figure(light, 12, 4.2, out, ncols=3, sharey=True) as (_, axes):
        for axis, (name, (rule, one, other)) in zip(axes, RULES.items(), strict=True):
            draw(axis, times, grey, exact, *rule(BEND), one, other)
            axis.set_title(name)
        axes[0].set_ylabel("x")
    gaps = {name: [first[-1][1] - second[-1][1] for first, second in map(rule, (BEND, 0.0))]
            for name, (rule, *_) in RULES.items()}  # fmt: skip
    return {f"gap, bent map, {name}": abs(gap[0]) for name, gap in gaps.items()} | {
        f"gap, exact map, {name}": abs(gap[1]) for name, gap in gaps.items()
    }


def draw(axis, times, grey, exact, first, second, one, other):
    for path in grey:
        axis.plot(times, path, color=light.rule, linewidth=1.2)
    axis.plot(times, exact, color=light.text, linewidth=1.2, linestyle="--", label="exact path")
    for route, name, colour in ((first, one, BLUE), (second, other, ORANGE)):
        axis.plot(*zip(*route, strict=True), "-o", color=colour, label=name, markersize=6, linewidth=2.5)
    ends = [route[-1][1] for route in (first, second)]
    axis.plot([T, T], ends, color=RED, linewidth=7, solid_capstyle="butt", label="gap: the residual", zorder=4)
    axis.set(xlim=(1, 0), ylim=(-0.5, 3.7), xlabel="time")
    axis.set_xticks([1, S, T, 0], ["1\nnoise", "s", "t", "0\ndata"])
    axis.legend(loc="upper left", fontsize=10)


if __name__ == "__main__":
    run(main)
