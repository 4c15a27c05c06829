"""The data of `benchmarks.text`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import flowmaps as fm

FILE = Path("benchmarks/data/kjv27.txt.gz")
SETS = {"kjv-32": 32, "kjv-64": 64}
"""Length of the windows of each set."""
REVELATION = 60_245
"""Characters of the last book, which is held out."""
CHARACTERS = 4_013_872
SECONDS = 600.0
"""Processor time of each training."""


@cache
def data_of(name: str) -> fm.data.Data:
    """The windows of a set."""
    return fm.data.text(FILE, SETS[name], held_out=REVELATION / CHARACTERS)
