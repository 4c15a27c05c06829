"""The networks and the data of the page `flowmaps explore --post`:  make explore

Each part is a module of this package with a function `part()`, which trains small flow maps and returns plain values of
JSON. A part is written to `flowmaps/reports/explore_page/post/NAME.json` with a digest of the module, so that a test
sees when the file is older than the code. `--only NAME` makes one part; a part whose digest is current is kept unless
`--again`. At the end the page itself is written to explore.html.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib import import_module
from pathlib import Path

import torch

import flowmaps as fm
import flowmaps.reports
from flowmaps.files import write_text

PARTS = ("law", "map", "landscape", "ranking", "gradients", "guidance", "words", "globe", "distributions")
OUT = Path(fm.__file__).parent / "reports" / "explore_page" / "post"
HERE = Path(__file__).parent


def digest(name: str) -> str:
    """Digest of the code of a part and of the shared code, which its file has too."""
    return hashlib.sha256((HERE / f"{name}.py").read_bytes() + (HERE / "shared.py").read_bytes()).hexdigest()[:16]


def written(name: str) -> str | None:
    """The digest in the file of a part, or None if it has no file."""
    path = OUT / f"{name}.json"
    return json.loads(path.read_text())["digest"] if path.exists() else None


def main() -> None:
    """Make the parts and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in PARTS if options.only is None else (options.only,):
        if options.again or written(name) != digest(name):
            print(name, flush=True)
            found = {"digest": digest(name), **import_module(f"benchmarks.explore.{name}").part()}
            write_text(OUT / f"{name}.json", json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n")
    print(flowmaps.reports.explore("explore.html"))
