"""Section 6.4 of the post, "Other extensions": earthquakes on the globe, by one jump.

    python examples/22_manifolds.py

Data are the places of 6,120 earthquakes, as unit vectors. The path from a uniform point to a place is the geodesic
between them, and the flow map learns along it by Lagrangian self-distillation. Its jump stands beside Euler steps of
its own velocity, all from the same noise; a single Euler step only moves points towards the middle of the data.
"""

from pathlib import Path

import torch
from _pictures import run, trained

import flowmaps as fm
from flowmaps.figures.land import coast
from flowmaps.figures.projections import Orthographic
from flowmaps.figures.sphere import dots, earth, surface
from flowmaps.figures.style import figure, light

FILE = Path(__file__).parent.parent / "benchmarks" / "data" / "sphere" / "earthquakes.csv"
VIEWS = [Orthographic(15, 140), Orthographic(10, -85)]
"""The western Pacific, and the Americas."""
SAMPLES = 5000


def main(out, steps=1500):
    data = fm.data.sphere(FILE)
    flow = fm.FlowMap(fm.networks.MLP(3, width=128, depth=3), path=fm.path.Geodesic(data.manifold))
    flow = trained(flow, fm.methods.gfm_lsd(), data, steps, lr=2e-3)
    noise, test = fm.noise(flow, SAMPLES, seed=0), data.held_out(10**6).x0
    rows = {"earthquakes": torch.cat([data.draw(data.size).x0, test])}
    for title, n, step in (("1 jump", 1, "jump"), ("1 Euler step", 1, "euler"), ("50 Euler steps", 50, "euler")):
        rows[title] = fm.sample(flow, noise, n, step=step)
    found = {}
    for title, x in rows.items():
        of = data.draw(data.size).x0 if title == "earthquakes" else x
        distance = fm.evaluate.geodesic_mmd(of[:2000], test, data.manifold)
        found[f"squared MMD to held-out earthquakes, {title}"] = distance.value
        found[f"standard error, {title}"] = distance.stderr
    with figure(light, 12.4, 6.6, out, nrows=len(VIEWS), ncols=len(rows), squeeze=False) as (_, axes):
        for line, view in zip(axes, VIEWS, strict=True):
            for axis, (title, x) in zip(line, rows.items(), strict=True):
                surface(axis, view, earth(light), light.muted, lines=coast())
                dots(axis, view, x, light.series[1 if title == "earthquakes" else 0], SAMPLES)
        for axis, title in zip(axes[0], rows, strict=True):
            axis.set_title(title)
    return found


if __name__ == "__main__":
    run(main)
