"""Ten minutes on a folder of your own images:  python -m benchmarks.own_folder [--run RUN]

A folder of 2000 colour photographs of 32 x 32, and 400 held-out ones, is written as PNG files: patches of the two
photographs inside scikit-learn, from regions that do not overlap. `flowmaps train FOLDER --seconds 600` trains on it
with all its defaults, on the cores of this machine. Then one jump, a few jumps and many steps are measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image

import flowmaps as fm
from benchmarks.tables import machine, markdown
from flowmaps.experiments import evaluate, train
from flowmaps.experiments.run_data import run_data
from flowmaps.figures.pictures import mosaic
from flowmaps.figures.style import figure, light
from flowmaps.figures.words import plus_minus
from flowmaps.files import write_json, write_text
from flowmaps.runs.records import read_metrics

OUT = Path("benchmarks/results")
SIDE, IMAGES, HELD_OUT, SHOWN = 32, 2000, 400, 48
SAMPLES = 500
NAMES = {"jump": "jumps", "euler": "Euler steps"}


def main() -> None:
    """Train unless the run exists, measure it, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/benchmarks/own_folder"), help="run folder")
    parser.add_argument("--seconds", type=float, default=600.0, help="time of training (default: 600)")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if not (options.run / "config.json").exists():
        folder = options.run.with_name(options.run.name + "_images")
        write_images(folder)
        train(folder, seconds=options.seconds, out=options.run)
    found = evaluate(options.run, n=SAMPLES, jumps=(1, 2, 4), ode_steps=(16,))
    found["machine"], found["steps"] = machine(), read_metrics(options.run)[-1]["step"]
    found["seconds"] = json.loads((options.run / "config.json").read_text())["training"]["seconds"]
    write_json(options.out / "own_folder.json", found)
    write_text(options.out / "own_folder.md", table(found))
    picture(options.run, options.out / "own_folder.png")
    print(table(found))


def write_images(folder: Path) -> None:
    """Write patches of photographs as PNG files, for training and held out."""
    data = fm.data.load("photos", size=SIDE)
    for part, x in (("train", data.draw(IMAGES, 0).x0), ("test", data.held_out(HELD_OUT, 0).x0)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for k, image in enumerate(((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(folder / part / f"{k:04}.png")


def table(found: dict) -> str:
    """The table of the page."""
    rows = [[named(row), plus_minus(row["distance"], row["stderr"]), time_of(row)] for row in found["rows"]]
    rows.append(["real against real images (the floor)", plus_minus(found["floor"], found["floor_stderr"]), ""])
    return (
        markdown(["sampler", "distance to held-out images", "time per sample"], rows)
        + f"\n\n{found['metric']}; {SAMPLES} samples, {HELD_OUT} held-out images. "
        + f"{found['seconds']:g} s of training were {found['steps']} steps.\n"
        + f"\n{found['machine']}; command: python -m benchmarks.own_folder\n"
    )


def named(row: dict) -> str:
    """The sampler of a row in words."""
    return "one jump" if (row["sampler"], row["steps"]) == ("jump", 1) else f"{row['steps']} {NAMES[row['sampler']]}"


def time_of(row: dict) -> str:
    """The time of one sample."""
    return f"{1e3 * row['seconds_per_sample']:.2g} ms"


def picture(run: Path, path: Path) -> None:
    """Draw samples by one and by four jumps from the same noise, beside real images."""
    flow, data = fm.load(run), run_data(run)
    noise = fm.noise(flow, SHOWN, seed=1)
    panels = {
        "one jump": fm.sample(flow, noise),
        "four jumps": fm.sample(flow, noise, 4),
        "real images, held out": data.held_out(SHOWN, 0).x0,
    }
    with figure(light, 9, 4.4, path, ncols=len(panels)) as (_, axes):
        for ax, (name, images) in zip(axes, panels.items(), strict=True):
            ax.imshow(mosaic((images + 1) / 2, columns=6).numpy(), interpolation="nearest")
            ax.set_title(name)
            ax.axis("off")


if __name__ == "__main__":
    main()
