"""The file of samples: a picture, an array, a table of text, texts, or sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor

from ..data import tokens_of
from ..figures.manifolds import Sight, sight
from ..figures.pictures import check_mosaic
from ..figures.words import visible
from ..files import replacing, write_text
from ..runs.loading import read_columns, read_coordinates, read_manifold, read_signal, read_vocabulary
from .sound import WAVE, SoundRequest, write_sound
from .text_conditioning import decoded, has_pipeline

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of pictures."""
TABLES = (".csv", ".tsv")
"""Suffixes of tables of text."""
TEXTS = ".txt"
"""Suffix of texts, one to a line."""


def usual_file(config: Mapping[str, Any]) -> Path:
    """The file for samples of a run: texts, sound, a picture if there is one, a table of vectors, else an array."""
    data = config["data"]
    if read_signal(config, Path("config.json")) is not None:
        return Path("samples.wav")
    if data["kind"] == "tokens":
        return Path("samples.txt")
    if data["kind"] != "vectors" or has_pipeline(config) or sight_in(config) is not None:
        return Path("samples.png")
    return Path("samples.csv" if len(data["shape"]) == 1 else "samples.npy")


def check_suffix(out: Path) -> None:
    """Refuse a file of another type, before any work is done."""
    if out.suffix.lower() not in (*PICTURES, ".npy", *TABLES, TEXTS, WAVE):
        raise ValueError(
            f"samples are written as {', '.join((*PICTURES, '.npy', *TABLES, TEXTS))} or {WAVE}, got {out}"
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
    heard = read_signal(config, Path("config.json")) is not None
    if (heard and suffix not in (WAVE, ".npy")) or (suffix == WAVE and not heard):
        kind = "sound" if heard else data["kind"]
        wanted = "to a .wav or a .npy file" if heard else "to a file of another type"
        raise ValueError(f"samples of this run are {kind}, and cannot be written as {suffix}: write them {wanted}")
    if (suffix == TEXTS) != (data["kind"] == "tokens") and suffix != ".npy":
        wanted = "to a .txt or a .npy file" if data["kind"] == "tokens" else "to a file of another type"
        raise ValueError(
            f"samples of this run are {data['kind']}, and cannot be written as {suffix}: write them {wanted}"
        )
    if suffix in PICTURES and data["kind"] == "images":
        check_mosaic(n, *data["shape"][1:])
    if suffix in PICTURES and data["kind"] == "vectors" and not has_pipeline(config) and sight_in(config) is None:
        raise ValueError(
            "only images, points in the plane, and points on spheres, tori and other manifolds with figures can be "
            "drawn: write the samples to a .npy file, or vectors to .csv"
        )
    if suffix in TABLES and len(data["shape"]) != 1:
        raise ValueError(
            f"a table of text holds points and vectors, and samples of this run have shape {tuple(data['shape'])}: "
            "write them to a picture or to a .npy file"
        )


def write(
    out: Path,
    x: Tensor,
    config: Mapping[str, Any],
    labels: Tensor | None = None,
    sound: SoundRequest | None = None,
    counts: Tensor | None = None,
) -> None:
    """Write samples as an array, as a table, as texts, as sound, or as a picture of images or of points.

    Args:
        out: The file; its suffix chooses the type.
        x: The samples.
        config: The content of config.json of their run. A table has the column names of the data of that run.
        labels: Class of each sample, the last column of a table.
        sound: Signal and prompt of samples of sound. None: the signal of the run, without a prompt.
        counts: Number of frames of each sample of sound. None: all.
    """
    kind, suffix = config["data"]["kind"], out.suffix.lower()
    if suffix == WAVE:
        signal = read_signal(config, Path("config.json"))
        assert signal is not None
        write_sound(out, x, sound or SoundRequest(signal, (x.shape[1], x.shape[2])), counts)
        return
    if suffix == TEXTS:
        write_text(out, "".join(f"{line}\n" for line in lines_of(x, config)))
        return
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

    seen = sight_in(config)
    if kind == "images":
        figures.grid((x + 1) / 2, out)
    elif seen is not None:
        seen.whole(x, out)
    else:
        figures.points(x, out)


def sight_in(config: Mapping[str, Any]) -> Sight | None:
    """The figures of points on the manifold of a run; None if it has none, or one that is not drawn."""
    file = Path("config.json")
    manifold, coordinates = read_manifold(config, file), read_coordinates(config, file)
    return None if manifold is None else sight(manifold, None if coordinates is None else coordinates.names)


def lines_of(x: Tensor, config: Mapping[str, Any]) -> list[str]:
    """Samples of tokens as lines of text.

    Args:
        x: The samples, (N, L, K).
        config: The content of config.json of their run.

    Returns:
        One line for each: its text by the vocabulary of the run, with visible line feeds, or the numbers of its tokens.
    """
    vocabulary = read_vocabulary(config, Path("config.json"))
    if vocabulary is None:
        return [" ".join(map(str, row)) for row in tokens_of(x).tolist()]
    return [visible(text) for text in vocabulary.decode(x)]


def _write_table(out: Path, x: Tensor, data: Mapping[str, Any], labels: Tensor | None) -> None:
    """Write vectors as a table of text."""
    from ..data.csv_files import write_csv

    recipe = data.get("recipe") or {}
    others: dict[str, list[Any]] = {}
    columns = read_columns({"data": data}, Path("config.json"))
    names = recipe.get("columns") if columns is None else list(columns.numbers)
    if columns is not None:
        x, others = columns.decode(x)
    coordinates = read_coordinates({"data": data}, Path("config.json"))
    if coordinates is not None:
        x, names = coordinates.decode(x), list(coordinates.names)
    if not isinstance(names, list) or len(names) != x.shape[1]:
        names = [f"x{at}" for at in range(x.shape[1])]
    if labels is not None:
        column, known = recipe.get("labels"), recipe.get("class_names")
        name = column if isinstance(column, str) and column not in names else "label"
        others[name] = [known[at] if isinstance(known, list) and at < len(known) else at for at in labels.tolist()]
    with replacing(out) as temporary:
        write_csv(temporary, x.numpy(), [str(name) for name in names], others)
