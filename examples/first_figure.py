"""Two ways from noise to data: stochastic beside deterministic sampling of the same marginals, from an exact mixture.

    python examples/first_figure.py [--out docs/images/first_figure.png]

No network and no training: the velocity, the denoiser and the density of a mixture of two Gaussians are closed forms.
Both samplers start from the same noise and have the same distribution p(x_t) at every time t, but very different
paths.
"""

import argparse
from pathlib import Path

import torch
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

import flowmaps as fm

LINE = fm.exact.GaussianMixture([0.4, 0.6], [-1.6, 1.3], 0.3)
LINE_NOISE = torch.tensor([-1.7, -0.8, 0.1, 0.9, 1.9], dtype=torch.float64)[:, None]
PLANE = fm.exact.GaussianMixture([0.5, 0.5], torch.tensor([[-2.4, -1.2], [2.4, 1.2]], dtype=torch.float64), 0.4)
PLANE_NOISE = torch.tensor([[-0.9, 1.3], [-1.5, -0.5], [0.5, -1.4], [1.6, -0.3], [0.35, 1.1]], dtype=torch.float64)
CROWD = torch.randn(20_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

# At t = 1 the linear path contains no data, and the reverse SDE forgets x immediately: start just below.
TIMES = torch.linspace(0.99, 0, 401, dtype=torch.float64).tolist()
SAMPLERS = {
    "$\\bf{Stochastic\\ sampling}$\nfresh noise at every step: jagged, no fixed end": fm.steps.sde(level=0.2),
    "$\\bf{Deterministic\\ sampling}$\nno noise after the start: smooth, one fixed end": fm.steps.euler,
}

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222"]  # Okabe and Ito: distinct for every colour vision
HALO = [patheffects.Stroke(linewidth=3.2, foreground="white"), patheffects.Normal()]
START = {"marker": "o", "markersize": 9, "markerfacecolor": "white", "markeredgewidth": 2.2}
END = {"marker": "o", "markersize": 10, "markeredgecolor": "white", "markeredgewidth": 1.2}


def paths(distribution, noise, step, seed):
    """States of each row of noise at all times, (times, B, D)."""
    return torch.stack(fm.trajectory(distribution, noise, times=TIMES, step=step, seed=seed))


def draw_paths(axes, x, y):
    """Draw each path, (times, B), as a coloured line from an open circle (start) to a filled one (end)."""
    for i, colour in enumerate(COLOURS):
        axes.plot(x[:, i], y[:, i], color=colour, linewidth=1.5, path_effects=HALO)
        axes.plot(x[0, i], y[0, i], color=colour, zorder=5, clip_on=False, **START)
        axes.plot(x[-1, i], y[-1, i], color=colour, zorder=6, clip_on=False, **END)


def shade(axes, density, extent):
    """Density in shades of grey: its square root, to show the tails, in the lighter half of the scale."""
    shades = density.sqrt()
    axes.imshow(shades, extent=extent, origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=2 * shades.max())


def draw_line(axes, step):
    """One dimension: time runs from noise on the left to data on the right."""
    times, x = torch.linspace(1, 0, 300, dtype=torch.float64), torch.linspace(-3, 3, 300, dtype=torch.float64)
    shade(axes, torch.stack([LINE.log_prob(x[:, None], t).exp() for t in times], dim=1), (1, 0, -3, 3))
    tracks = paths(LINE, LINE_NOISE, step, seed=5)[..., 0]
    draw_paths(axes, torch.tensor(TIMES)[:, None].expand_as(tracks), tracks)
    axes.set(xlim=(1, 0), ylim=(-3, 3), xticks=[1, 0.75, 0.5, 0.25, 0], yticks=[-2, 0, 2], ylabel="x")
    axes.set_xticklabels(["1\nnoise", "0.75", "0.5\ntime", "0.25", "0\ndata"])
    axes.text(0.98, 2.6, "in one dimension")


def draw_crowd(axes, step):
    """Histogram of the ends of many samples, beside the exact density of the data."""
    ends = paths(LINE, CROWD, step, seed=0)[-1, :, 0]
    x = torch.linspace(-3, 3, 300, dtype=torch.float64)
    axes.hist(ends, bins=60, range=(-3, 3), density=True, orientation="horizontal", color="#bbbbbb")
    axes.plot(LINE.log_prob(x[:, None]).exp(), x, color="black", linewidth=1.4)
    axes.set(ylim=(-3, 3), xlim=(0, 0.9), xticks=[], yticks=[], xlabel=f"{len(CROWD):,}\nsamples")


def draw_plane(axes, step):
    """Two dimensions: the paths in space, over the density of the data and two rings of the noise."""
    x, y = torch.linspace(-4, 4, 320, dtype=torch.float64), torch.linspace(-3, 3, 240, dtype=torch.float64)
    shade(axes, PLANE.log_prob(torch.cartesian_prod(x, y)).exp().reshape(len(x), len(y)).T, (-4, 4, -3, 3))
    for radius in (1, 2):
        axes.add_patch(Circle((0, 0), radius, fill=False, linestyle=(0, (4, 4)), edgecolor="#888888"))
    for where, name in [((0, 2.12), "noise"), ((-2.4, -2.75), "data"), ((2.4, 2.45), "data")]:
        axes.text(*where, name, ha="center", color="#444444")
    tracks = paths(PLANE, PLANE_NOISE, step, seed=11)
    draw_paths(axes, tracks[..., 0], tracks[..., 1])
    axes.set(xlim=(-4, 4), ylim=(-3, 3), xticks=[-2, 0, 2], yticks=[-2, 0, 2], xlabel="$x_1$", ylabel="$x_2$")
    axes.set_aspect("equal")
    axes.text(-3.85, 2.62, "in two dimensions")


def main(out):
    figure = Figure(figsize=(11, 8.6), layout="constrained")
    figure.suptitle("Same noise, same distribution at every time, different paths", fontsize=16, fontweight="bold")
    for half, (title, step) in zip(figure.subfigures(1, 2, wspace=0.03), SAMPLERS.items(), strict=True):
        half.suptitle(title, fontsize=13)
        grid = half.add_gridspec(2, 2, width_ratios=[6, 1], height_ratios=[1, 1.15])
        draw_line(half.add_subplot(grid[0, 0]), step)
        draw_crowd(half.add_subplot(grid[0, 1]), step)
        draw_plane(half.add_subplot(grid[1, :]), step)
    marks = [
        Line2D([], [], color=COLOURS[-1], linestyle="", label="start: noise", **START),
        Line2D([], [], color=COLOURS[-1], linestyle="", label="end: a sample of the data", **END),
        Line2D([], [], color="#bbbbbb", linewidth=9, label="density: the same left and right"),
        Line2D([], [], color="black", linewidth=1.4, label="exact density of the data"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100, pil_kwargs={"optimize": True})
    print(f"wrote {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/first_figure.png"), help="default: %(default)s")
    main(parser.parse_args().out)
