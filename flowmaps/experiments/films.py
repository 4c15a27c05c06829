"""Moving pictures of the samples of a run: on their way from noise to data, or over training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import figures
from ..arguments import expect_path, truth
from ..data.columns import are_series
from ..figures.film_files import check_film
from ..figures.pictures import check_mosaic
from ..flow_map import FlowMap
from ..runs.loading import read_columns, read_coordinates, read_signal
from ..runs.snapshots import kept_steps, over_training
from ..sampling.in_order import makes_sequences
from ..steering.smc import effective
from .sample_files import lines_of, sight_in
from .text_conditioning import has_pipeline

STEPS = 24
"""Usual number of steps of a moving picture."""
USUAL = {"points": 1000, "images": 36, "tokens": 12, "vectors": 15}
"""Usual number of samples of a moving picture, by the kind of the data."""
MOST = {"tokens": 60, "vectors": 400}
"""Largest number of texts and of series."""
MOST_FRAMES = 500
"""Largest number of frames."""


def check_request(animate: Any, snapshots: Any) -> None:
    """Check the options of a moving picture, before anything is read.

    Args:
        animate: The file; None: there is no moving picture.
        snapshots: Whether it shows samples over training.

    Raises:
        ImportError: A package or program that writes it is missing.
        ValueError: It is another file, or there is no file.
    """
    truth(snapshots=snapshots)
    if animate is not None:
        expect_path("animate", animate)
        check_film(Path(animate))
    elif snapshots:
        raise ValueError("`snapshots` is for moving pictures: give the file of one, `animate`, such as training.gif")


def usual_number(config: Mapping[str, Any]) -> int:
    """The usual number of samples of a moving picture of a run."""
    return USUAL["points"] if sight_in(config) is not None else USUAL[config["data"]["kind"]]


def check_animation(run: Path, config: Mapping[str, Any], n: int, steps: int | None) -> None:
    """Refuse a moving picture that a run does not have, before anything is drawn.

    Args:
        run: The run folder.
        config: The content of its config.json.
        n: Number of samples.
        steps: Number of steps from noise to data. None: it shows samples over training.

    Raises:
        ValueError: The data have no moving picture, it would be too large, or the run keeps fewer than two checkpoints.
    """
    data = config["data"]
    if read_signal(config, run / "config.json") is not None:
        raise ValueError("sound has no moving picture: leave out `animate`, and write the samples to a .wav file")
    if has_pipeline(config):
        raise ValueError(
            "latents are no pictures on their way, so they have no moving picture: leave out `animate`, and write the "
            "samples to a .png file"
        )
    if steps is not None and steps >= MOST_FRAMES:
        raise ValueError(f"a moving picture has at most {MOST_FRAMES} frames: take fewer `steps`, got {steps}")
    if data["kind"] == "images":
        check_mosaic(n, *data["shape"][1:])
    elif sight_in(config) is None and n > MOST.get(data["kind"], n):
        raise ValueError(f"a moving picture has room for {MOST[data['kind']]} samples of this run, got {n}")
    if data["kind"] == "vectors" and sight_in(config) is None and not _is_series(config):
        raise ValueError(
            "moving pictures are of images, points, texts and series, and the rows of this run are vectors of shape "
            f"{tuple(data['shape'])}: leave out `animate`, and write the samples to a .npy file"
        )
    kept = kept_steps(run)
    if steps is None and len(kept) == 1:
        raise ValueError(
            f"samples over training need at least two checkpoints, and {run} keeps one, of step {kept[0]}: train with "
            "more of them, such as --checkpoint-every 100 --keep 50"
        )


def in_words(steps: int, name: str) -> str:
    """Steps of a sampler in words, such as "24 jumps" or "1 Euler step"."""
    kind = name.title() if name in ("euler", "heun") else name
    return f"{steps} {kind if name == 'jump' else f'{kind} step'}{'s' * (steps > 1)}"


def refuse_sequences(flow: Any) -> None:
    """Refuse a moving picture of a model that makes a sequence frame by frame.

    Raises:
        ValueError: It is one.
    """
    if makes_sequences(flow):
        raise ValueError(
            "a model that makes a sequence frame by frame has no states of the whole sequence between noise and data: "
            "leave out `animate`"
        )


def _is_series(config: Mapping[str, Any]) -> bool:
    """Whether rows of vectors are series: values of one kind, not the columns of a table."""
    data, file = config["data"], Path("config.json")
    named = (data.get("recipe") or {}).get("columns") is not None
    named = named or read_columns(config, file) is not None or read_coordinates(config, file) is not None
    return are_series(data["shape"], named)


@dataclass
class Film:
    """The samples of a run as a moving picture, while they are drawn.

    Args:
        path: The file.
        flow: The flow map of the run.
        config: The content of its config.json.
        title: The line above the samples.
    """

    path: Path
    flow: FlowMap
    config: Mapping[str, Any]
    title: str
    states: list[Tensor] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)

    def add(self, x: Tensor, caption: str) -> None:
        """Add standardised samples (N, ...) with a line below them; the tensor may change afterwards."""
        x = x.detach() if self.flow.units is None else self.flow.units.restored(x.detach())
        self.states.append(x.to("cpu", torch.float32, copy=True))
        self.captions.append(caption)

    def at_time(self, t: float, x: Tensor) -> None:
        """Add the states of samples at a time between noise and data."""
        self.add(x, f"t = {t:.2f}")

    def particles(self, t: float, x: Tensor, log_weights: Tensor) -> None:
        """Add particles of one group at a time, with their effective number."""
        self.add(x, f"t = {t:.2f}, {float(effective(log_weights)[0]):.0f} of {len(x)} effective")

    def end(self, samples: Tensor) -> None:
        """Add the samples that are drawn from the particles, in the units of the data, if there are as many."""
        if len(samples) == len(self.states[-1]):
            self.states.append(samples.to(self.states[-1]))
            self.captions.append("t = 0.00, resampled")

    def over_training(self, run: Path, draw: Callable[[], Tensor], ema: bool) -> Tensor:
        """Add the samples of each checkpoint of a run.

        Args:
            run: The run folder.
            draw: Function that draws standardised samples by the weights of the flow map.
            ema: Whether to use the averaged weights.

        Returns:
            The samples of the newest checkpoint.
        """
        for step in over_training(run, self.flow, ema=ema):
            x = draw()
            self.add(x, f"training step {step:,}")
        return x

    def write(self) -> None:
        """Write the moving picture.

        Raises:
            OSError: The file cannot be written.
        """
        kind, seen = self.config["data"]["kind"], sight_in(self.config)
        shown: list[Any] = self.states
        if kind == "images":
            shown = [(x + 1) / 2 for x in self.states]
        elif kind == "tokens":
            shown = [lines_of(x, self.config) for x in self.states]
        draw = None if seen is None else seen.card(self.states[-1])
        figures.animate({self.title: shown}, self.path, captions={self.title: self.captions}, draw=draw)


__all__ = ["STEPS", "Film", "check_animation", "check_request", "in_words", "refuse_sequences", "usual_number"]
