"""The file of samples: a picture, an array or a table of text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor

from ..figures.pictures import check_mosaic
from ..files import replacing
from .text_conditioning import decoded, has_pipeline

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of pictures."""
TABLES = (".csv", ".tsv")
"""Suffixes of tables of text."""


def usual_file(config: Mapping[str, Any]) -> Path:
    """The file for samples of a run: a picture if they can be drawn, else a table of vectors, else an array."""
    data = config["data"]
    if data["kind"] != "vectors" or has_pipeline(config):
        return Path("samples.png")
    return Path("samples.csv" if len(data["shape"]) == 1 else "samples.npy")


def check_suffix(out: Path) -> None:
    """Refuse a file of another type, before any work is done."""
    if out.suffix.lower() not in (*PICTURES, ".npy", *TABLES):
        raise ValueError(
            f"samples are written as {', '.join((*PICTURES, '.npy', TABLES[0]))} or {TABLES[1]}, got {out}"
        )


def check_file(out: Path, n: int, config: Mapping[str, Any]) -> None:
    """Refuse a file that cannot hold the samples of a run, before they are drawn.

    Args:
        out: The file.
        n: Number of samples.
        config: The content of config.json of the run.

    Raises:
        ValueError: The picture would be too large, the samples cannot be drawn, or are no rows of a table.
    """
    data, suffix = config["data"], out.suffix.lower()
    if suffix in PICTURES and data["kind"] == "images":
        check_mosaic(n, *data["shape"][1:])
    if suffix in PICTURES and data["kind"] == "vectors" and not has_pipeline(config):
        raise ValueError(
            "only images and points in the plane can be drawn: write the samples to a .npy file, or vectors to .csv"
        )
    if suffix in TABLES and len(data["shape"]) != 1:
        raise ValueError(
            f"a table of text holds points and vectors, and samples of this run have shape {tuple(data['shape'])}: "
            "write them to a picture or to a .npy file"
        )


def write(out: Path, x: Tensor, config: Mapping[str, Any], labels: Tensor | None = None) -> None:
    """Write samples as an array, as a table, or as a picture of images or points.

    Args:
        out: The file; its suffix chooses the type.
        x: The samples.
        config: The content of config.json of their run. A table has the column names of the data of that run.
        labels: Class of each sample, the last column of a table.
    """
    kind, suffix = config["data"]["kind"], out.suffix.lower()
    if suffix in TABLES:
        _write_table(out, x, config["data"], labels)
        return
    if kind == "vectors" and suffix in PICTURES and has_pipeline(config):
        x, kind = decoded(config, x), "images"
    if suffix == ".npy":
        import numpy as np

        with replacing(out) as temporary, temporary.open("wb") as file:
            # through `write`, because numpy does not notice a full disk where it writes to a file of its own
            np.save(cast(Any, SimpleNamespace(write=file.write)), x.numpy())
        return
    from .. import figures

    if kind == "images":
        figures.grid((x + 1) / 2, out)
    else:
        figures.points(x, out)


def _write_table(out: Path, x: Tensor, data: Mapping[str, Any], labels: Tensor | None) -> None:
    """Write vectors as a table of text."""
    from ..data.csv_files import write_csv

    recipe = data.get("recipe") or {}
    names = recipe.get("columns")
    if not isinstance(names, list) or len(names) != x.shape[1]:
        names = [f"x{at}" for at in range(x.shape[1])]
    label = None
    if labels is not None:
        column, known = recipe.get("labels"), recipe.get("class_names")
        name = column if isinstance(column, str) and column not in names else "label"
        label = name, [known[at] if isinstance(known, list) and at < len(known) else at for at in labels.tolist()]
    with replacing(out) as temporary:
        write_csv(temporary, x.numpy(), [str(name) for name in names], label)
