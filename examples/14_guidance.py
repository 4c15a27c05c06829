"""Section 5 of the post, "Guidance": a flow map learns from a guided velocity, at any scale.

    python examples/14_guidance.py

The classes are three overlapping Gaussians in the plane. Their exact velocities, and the velocity of their mixture,
make the guided velocity v(null) + w (v(c) - v(null)). Top: the ODE of the guided velocity, in many steps. Middle: one
jump of a guidance-conditioned flow map (EMD, with the scale w drawn anew for each row). Bottom: a mixture of the exact
jumps instead of the velocities, which gives different samples.
"""

from pathlib import Path

import torch
from _pictures import COLOURS, distance, run, trained
from torch import nn

import flowmaps as fm
from flowmaps.data.transforms import GuidanceScales, transformed
from flowmaps.exact.solve import solve
from flowmaps.figures.style import figure, light
from flowmaps.path import expand

MEANS = torch.tensor([[0.0, 1.0], [-0.87, -0.5], [0.87, -0.5]])
STD = 0.6
NULL = {"label": len(MEANS)}
SCALES = (1.0, 2.0, 4.0)


class Classes:
    """Teacher with the exact velocities and jumps of one Gaussian for each class, and of their mixture."""

    def __init__(self, label=None):
        self.label = label
        self.known = [fm.exact.Gaussian(mean, STD) for mean in MEANS]
        self.known.append(fm.exact.GaussianMixture(torch.full((len(MEANS),), 1 / len(MEANS)), MEANS, STD))

    def given(self, label):
        return Classes(label)

    def _by_class(self, name, x, *times):
        values = torch.stack([getattr(one, name)(x, *times) for one in self.known])
        return values[self.label, torch.arange(len(x))]

    def velocity(self, x, t):
        return self._by_class("velocity", x, t)

    def average_velocity(self, x, s, t):
        return self._by_class("average_velocity", x, s, t)


class Conditioned(nn.Module):
    """Guidance-conditioned network, with an input for each class and one for the scale, 1 - 1/w."""

    def __init__(self, width=128):
        super().__init__()
        self.inner = fm.networks.ConcatMLP(2 + len(MEANS) + 1, width=width, depth=3)

    def forward(self, x, s, t, label, guidance):
        known = nn.functional.one_hot(label, len(MEANS))
        return self.inner(torch.cat([x, known, 1 - 1 / guidance[:, None]], 1), s, t)[:, :2]


def main(out: Path, steps: int = 1000) -> dict[str, float]:
    label = torch.arange(30_000) % len(MEANS)
    rows = (MEANS[label] + STD * torch.randn(len(label), 2), label)
    teacher = fm.guidance.classifier_free(Classes(), null=NULL)  # at the scale of each row
    data = transformed(fm.data.as_data(rows), GuidanceScales(1.0, 5.0))
    flow = trained(fm.FlowMap(Conditioned()), fm.methods.emd(teacher), data, steps)
    noise, classes = torch.randn(900, 2), torch.arange(900) % len(MEANS)
    found, drawn = {}, []
    for scale in SCALES:
        condition = {"label": classes, "guidance": torch.full((900,), scale)}
        ode = solve(teacher.given(**condition).velocity, noise, 1.0, 0.0, tolerance=1e-5)
        jump = fm.sample(flow, noise, condition=condition)
        mixed = noise - mixture_of_jumps(noise, **condition)
        drawn.append((ode, jump, mixed))
        found[f"distance of one jump from the ODE, scale {scale:g}"] = distance(jump, ode)
        found[f"distance of mixed jumps from the ODE, scale {scale:g}"] = distance(mixed, ode)
        found[f"share nearest to the requested class, ODE, scale {scale:g}"] = share(ode, classes)
        found[f"share nearest to the requested class, one jump, scale {scale:g}"] = share(jump, classes)
    draw(out, drawn, [COLOURS[k] for k in classes])
    return found


def mixture_of_jumps(noise, label, guidance):
    """Mixture V(null) + w (V(c) - V(null)) of the exact average velocities from 1 to 0."""
    here, null = (Classes(one).average_velocity(noise, 1.0, 0.0) for one in (label, torch.full_like(label, len(MEANS))))
    return null + expand(guidance, noise) * (here - null)


def share(x, label):
    """Share of the rows whose nearest mean is the mean of their class."""
    return float((torch.cdist(x, MEANS).argmin(1) == label).double().mean())


def draw(out, drawn, colours):
    names = ("the guided ODE", "one jump, given the scale", "jumps mixed")
    with figure(light, 11, 10.5, out, nrows=3, ncols=3) as (_, axes):
        for column, (scale, samples) in enumerate(zip(SCALES, drawn, strict=True)):
            for row, (name, x) in enumerate(zip(names, samples, strict=True)):
                axis = axes[row, column]
                axis.scatter(x[:, 0], x[:, 1], s=4, c=colours, linewidths=0, alpha=0.7)
                axis.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xticks=[], yticks=[])
                axis.set_title(f"{name}, scale {scale:g}")


if __name__ == "__main__":
    run(main)
