"""Training on real images with a DiT: one jump against 100 Euler steps beside the data floor, with pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import flowmaps as fm
from benchmarks.cost.networks import DEVICE
from benchmarks.digits import METHODS, ROWS
from flowmaps.figures import grid
from flowmaps.outputs import Bounded, average_velocity
from flowmaps.training import State

DATA: dict[str, Any] = {"name_or_path": "glyphs", "size": 32}
"""The data set, as arguments of `fm.data.load`."""
SIZES: dict[str, int] = {"width": 384, "depth": 8, "heads": 6}
SMALL: dict[str, int] = {"width": 24, "depth": 1, "heads": 2}
TRAINING, LATEST = 0.55, 0.85
"""Shares of a method's time: its training, without compiling, and the moment when it ends in any case."""


def network(shape: tuple[int, ...], small: bool) -> fm.networks.DiT:
    """A DiT with 8 x 8 patches."""
    channels, height, width = shape
    return fm.networks.DiT((channels, height, width), max(1, height // 8), **(SMALL if small else SIZES))


def measured(small: bool, seconds: Callable[[], float], keep: Callable[[dict[str, Any]], None], out: Path) -> None:
    """Train with each method for the same time, then measure and draw samples.

    Args:
        small: Whether this is a rehearsal.
        seconds: Waits for the turn of this stage, and returns the seconds that it has.
        keep: Stores what was found so far.
        out: Folder of the pictures.
    """
    end = seconds() + time.monotonic()
    began = time.monotonic()
    data = fm.data.load(**DATA)
    features = fm.evaluate.classifier_features(fm.evaluate.train_classifier(data, steps=10 if small else 150))
    found: dict[str, Any] = {"data": data.name, "shape": list(data.shape), "rows": [], "training": []}
    found["preparation"] = time.monotonic() - began
    keep(found)
    size = {"n": 32, "draws": 2} if small else {"n": 1024, "draws": 2}
    found |= pictured(data, data.draw(64, seed=0).x0, out / "images-data.png")
    for index, (name, method) in enumerate(METHODS.items()):
        torch.manual_seed(0)
        flow = fm.FlowMap(network(data.shape, small), Bounded(average_velocity))
        share = (end - time.monotonic()) / (len(METHODS) - index)
        state = trained(flow, method(), data, share, small)
        found["training"].append({"model": name, "steps": state.step, "seconds": state.seconds})
        keep(found)
        kind, counts = ROWS[name]
        numbers = {"jumps": counts, "ode_steps": ()} if kind == "jump" else {"jumps": (), "ode_steps": counts}
        ema = state.ema.to(DEVICE)
        result = fm.evaluate.evaluate(ema, data, features=features, labels=False, **size, **numbers)
        found |= {key: value for key, value in result.items() if key != "rows"}
        found["rows"] += [{"model": name, **row} for row in result["rows"]]
        keep(found)
        step = fm.steps.jump if kind == "jump" else fm.steps.euler
        x = fm.sample(ema, fm.noise(ema, 64, shape=data.shape, seed=0), counts[0 if kind == "jump" else -1], step=step)
        found |= pictured(data, x, out / f"images-{kind}.png")
        keep(found)


def pictured(data: fm.data.Data, x: torch.Tensor, path: Path) -> dict[str, str]:
    """Draw a picture of images; without matplotlib, return the reason why there is none."""
    try:
        grid(data.to_pixels(x.float().cpu()), path)
    except ImportError as missing:
        return {"pictures": str(missing)}
    return {}


def trained(flow: fm.FlowMap, method: fm.Method, data: fm.data.Data, share: float, small: bool) -> State:
    """Train in a share of the time, compiled on a GPU, and return the last state."""
    end = time.monotonic() + LATEST * share
    options: dict[str, Any] = (
        {"batch_size": 32, "steps": 3} if small else {"batch_size": 512, "seconds": TRAINING * share}
    )
    states = fm.train(
        flow, method, data, lr=5e-4, clip=1.0, labels=False, precision="bf16", compile=DEVICE.type == "cuda",
        progress_bar=False, trackers=(), sample_every=0, **options,
    )  # fmt: skip
    for state in states:
        last = state
        if time.monotonic() > end:
            break
    return last
