"""The files of steered samples: the one that is asked for, and the record in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import figures
from ..arguments import given
from ..figures.steered import steered
from ..runs.steering_record import PICTURE, RECORD, write_steered_record
from .run_folder import STEERED, lock
from .sample_files import PICTURES, write
from .steered_result import Steered
from .text_conditioning import decoded, has_latents
from .trained_run import Say


def write_steered(out: Path, result: Steered, config: Mapping[str, Any]) -> None:
    """Write steered samples: of images a picture with measurement, samples, mean and spread; else as other samples.

    Args:
        out: The file; its suffix chooses the type.
        result: The samples.
        config: The content of config.json of their run.
    """
    if out.suffix.lower() in PICTURES and config["data"]["kind"] == "images":
        draw(out, result)
    else:
        write(out, result.x, config)


def draw(path: Path, result: Steered) -> None:
    """Draw steered images, of values in [-1, 1]."""
    known: dict[str, Any] = {}
    if result.measurement is not None:
        known = given(measurement=result.measurement.picture, truth=result.measurement.truth)
    pixels = {name: (x + 1) / 2 for name, x in known.items()}
    steered((result.x + 1) / 2, (result.mean + 1) / 2, result.std, path=path, **pixels)


def keep(run: Path, result: Steered, config: Mapping[str, Any], command: str | None, say: Say) -> None:
    """Keep the record of steered samples, with their picture, in the run folder, for its report.

    Args:
        run: The run folder.
        result: The samples.
        config: The content of its config.json.
        command: The command line.
        say: Receives a line if they cannot be kept.
    """
    record = {
        "step": result.step, "method": result.method, "steps": result.steps, "samples": len(result.x),
        "particles": result.particles, "target": result.target, "numbers": dict(result.numbers), "command": command,
    }  # fmt: skip
    kind = config["data"]["kind"]
    drawn = kind in ("images", "points") or has_latents(config)
    try:
        with lock(run, "keeping steered samples", STEERED, RECORD, PICTURE):
            if kind == "images":
                draw(run / PICTURE, result)
            elif kind == "points":
                figures.points(result.x, run / PICTURE)
            elif drawn:
                figures.grid((decoded(config, result.x) + 1) / 2, run / PICTURE)
            write_steered_record(run, record, drawn)
    except OSError as error:
        say(f"The record of these samples cannot be kept with the run: {error}")
