"""Pictures of the data sets that come with the library: digits, glyphs, patches of photographs and time series.

    python examples/data_sets.py [--out docs/images]

Each picture has a row for each class. The rows are random training rows, the same in every run.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

import flowmaps as fm

SETS = {
    "digits": ({}, 20),
    "glyphs": ({"size": 28}, 20),
    "photos": ({"size": 32, "scale": 2}, 14),
}
"""Options of each set of images, and the images in a row of its picture."""
PHOTO_ROWS = 3
INK, FAINT = "#0072B2", "#999999"


def rows_by_class(data, count):
    """`count` training rows of each class, in the order of the classes: (classes, count, *shape)."""
    batch = data.draw(min(data.size or 6000, 20_000), seed=0)
    return torch.stack([batch.x0[batch.label == k][:count] for k in range(data.classes)])


def draw_images(name, out):
    """A mosaic with a row for each class, its name beside it."""
    options, columns = SETS[name]
    data = fm.data.load(name, **options)
    per_class = PHOTO_ROWS if name == "photos" else 1
    rows = rows_by_class(data, columns * per_class)
    board = fm.visualise.mosaic(data.to_pixels(rows.flatten(0, 1)), columns=columns, gap=2)
    figure = Figure(figsize=(9, 9 * board.shape[0] / board.shape[1] * 0.86), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(board, interpolation="nearest")
    height = per_class * (data.shape[1] + 2)
    axes.set_yticks([height * (k + 0.5) for k in range(data.classes)], data.class_names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    save(figure, out / f"{name}.png")


def draw_series(out):
    """A panel for each class: the template, dashed, and rows of the set."""
    data, tau = fm.data.load("series"), torch.linspace(-1, 1, 40)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(2, 5, sharex=True, sharey=True)
    for k, (axes, rows) in enumerate(zip(panels.flat, rows_by_class(data, 3), strict=True)):
        u = torch.linspace(-1, 1, 200)
        axes.plot(u, fm.data.series.template(u / 0.5, k), color=FAINT, linestyle="--", linewidth=1.2)
        for number, row in enumerate(rows):
            axes.plot(tau, row, color=INK, linewidth=1.2, alpha=(1, 0.6, 0.35)[number])
        axes.set_title(f"class {k}", fontsize=9)
        axes.tick_params(labelsize=8)
    save(figure, out / "series.png")


def save(figure, path):
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", pil_kwargs={"optimize": True})
    print(f"wrote {path}")


def main(out):
    """Draw all pictures."""
    for name in SETS:
        draw_images(name, out)
    draw_series(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="default: %(default)s")
    main(parser.parse_args().out)
