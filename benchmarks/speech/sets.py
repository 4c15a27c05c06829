"""The recordings of `benchmarks.speech`: spoken digits that espeak-ng makes, and one real voice of Debian."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import flowmaps as fm
from flowmaps.sequences import LogMel

RATE = 8000
"""Sample rate in Hz; recordings of espeak-ng are resampled."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
VARIANTS = (*(f"m{k}" for k in range(1, 9)), *(f"f{k}" for k in range(1, 6)))
VOICE = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
INSTALL = "apt-get install espeak-ng asterisk-core-sounds-en-wav"


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
        make: Function from the folder of the benchmark and a number of the recordings to the folder of the recordings.
        seconds: Duration of a row.
        title: Its name in tables.
    """

    make: Callable[[Path, int], Path]
    seconds: float
    title: str


def spoken(folder: Path, number: int = 0) -> Path:
    """Recordings of the ten digits in all voices, two each, with a pitch and a speed by chance; a folder for a word.

    Args:
        folder: The folder of the benchmark.
        number: Seed of pitches and speeds: 0 for the recordings of the models, 1 for the ones of the classifier.

    Returns:
        The folder; it is made once.
    """
    if shutil.which("espeak-ng") is None:
        raise SystemExit(f"espeak-ng is not installed: {INSTALL}")
    out = folder / f"digits-{number}"
    if (out / "done").exists():
        return out
    draws = random.Random(number)  # noqa: S311
    for word, accent, variant, _ in product(WORDS, ACCENTS, VARIANTS, range(2)):
        pitch, speed = draws.randint(25, 75), draws.randint(130, 200)
        path = out / word / f"{accent}_{variant}_{pitch}_{speed}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        voice = ["-v", f"{accent}+{variant}", "-p", str(pitch), "-s", str(speed)]
        subprocess.run(["espeak-ng", *voice, "-w", str(path), word], check=True)  # noqa: S607
    (out / "done").touch()
    return out


def real_voice(folder: Path, number: int = 0) -> Path:
    """The folder of 568 prompts of one voice, Debian's asterisk-core-sounds-en-wav (CC-BY-SA-3.0)."""
    if not VOICE.is_dir():
        raise SystemExit(f"there is no folder {VOICE}: {INSTALL}")
    return VOICE


SETS = {"digits": Set(spoken, 0.8, "spoken digits"), "voice": Set(real_voice, 1.0, "one real voice")}


def data_of(name: str, folder: Path, number: int = 0) -> fm.data.Data:
    """The data set with a name: windows of log-mel frames."""
    chosen = SETS[name]
    labels = name == "digits"
    return fm.data.audio(
        str(chosen.make(folder, number)), rate=RATE, seconds=chosen.seconds, transform=LogMel(), labels=labels
    )
