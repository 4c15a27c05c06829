"""The record of the last steered samples of a run: steered.json, and steered.png beside it."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ..data.decoding import check_pixels, pillow
from ..files import read_json, sealed, unsealed, write_json
from .documents import MOST_STEPS, check, is_number

RECORD = "steered.json"
"""File with the numbers of the last steered samples."""
PICTURE = "steered.png"
"""File with their picture."""
LARGEST = 2**26
"""Largest size of the picture in bytes."""
LONGEST = 4096
"""Largest length of a text."""


class SteeredNumbers(TypedDict):
    """The entry "numbers" of steered.json."""

    reward: float
    spread: float
    ess: NotRequired[float]
    log_z: NotRequired[float]
    kl: NotRequired[float]
    residual: NotRequired[float]
    psnr: NotRequired[float]


class SteeredRecord(TypedDict):
    """The content of steered.json."""

    step: int
    method: str
    steps: int
    samples: int
    particles: int | None
    target: str
    numbers: SteeredNumbers
    command: str | None
    picture: str | None


def write_steered_record(run: Path, record: Mapping[str, Any], drawn: bool) -> None:
    """Write the record of steered samples.

    Args:
        run: The run folder.
        record: The content of steered.json, without its entry "picture".
        drawn: Whether steered.png was written for it.
    """
    digest = hashlib.sha256((run / PICTURE).read_bytes()).hexdigest() if drawn else None
    write_json(run / RECORD, sealed({**record, "picture": digest}))


def read_steered_record(run: str | Path) -> tuple[dict[str, Any], bytes | None] | None:
    """Read the record of the last steered samples.

    Args:
        run: The run folder.

    Returns:
        The content of steered.json, and the bytes of a PNG file, encoded anew; None instead of a picture that is
        missing or of other samples, with a warning. None without a record, or with one that has changed, with a
        warning.

    Raises:
        ValueError: The record is broken, or lacks an entry.
    """
    path = Path(run) / RECORD
    if not path.is_file():
        return None
    found = read_json(path)
    _check(found, path)
    if not unsealed(found)[1]:
        warnings.warn(f"{path} has changed since it was written, and is left out: sample again", stacklevel=2)
        return None
    return found, None if found["picture"] is None else _picture(path.with_name(PICTURE), found["picture"])


def _check(found: Any, path: Path) -> None:
    """Check the content of steered.json. Raises ValueError, naming the file and the entry."""
    check(found, SteeredRecord, path)
    for name, value in found["numbers"].items():
        if not is_number(value) or not math.isfinite(value):
            raise ValueError(f"{path} cannot be used: numbers.{name} must be a finite number")
    for name in ("method", "target", "command"):
        if len(found[name] or "") > LONGEST:
            raise ValueError(f"{path} cannot be used: {name} is longer than {LONGEST} characters")
    for name in ("step", "steps", "samples"):
        if not 0 <= found[name] <= max(MOST_STEPS, 2**40 if name == "step" else 0):
            raise ValueError(f"{path} cannot be used: {name} is out of range")


def _picture(path: Path, digest: str) -> bytes | None:
    """The picture, decoded and encoded anew; None if it is not the one of the record."""
    whole = None
    if path.is_file() and path.stat().st_size <= LARGEST:
        written = path.read_bytes()
        whole = _encoded(written) if hashlib.sha256(written).hexdigest() == digest else None
    if whole is None:
        warnings.warn(f"{path} is not the picture of the record beside it, and is left out: sample again", stacklevel=3)
    return whole


def _encoded(written: bytes) -> bytes | None:
    """A PNG file of the pixels of a PNG file alone; None if it cannot be decoded."""
    try:
        with pillow().open(BytesIO(written), formats=["PNG"]) as image:
            check_pixels(image)
            again = BytesIO()
            image.convert("RGBA").save(again, "png")
            return again.getvalue()
    except (ValueError, OSError, SyntaxError):
        return None
