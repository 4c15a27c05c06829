"""The page of the post and the pages of runs: text, scripts and data in one file that needs no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import write_text
from ..page import render

HERE = Path(__file__).parent
POST = HERE / "post"


@dataclass(frozen=True)
class Chapter:
    """A chapter of the page of the post.

    Attributes:
        name: Name of its text, `templates/explore/NAME.html.j2`, and of its anchor.
        title: Its heading.
    """

    name: str
    title: str


CHAPTERS = (
    Chapter("two_ways", "Two ways to sample"),
    Chapter("map", "The myopic denoiser and the map"),
    Chapter("rules", "Three rules"),
    Chapter("gradients", "Where gradients go"),
    Chapter("landscape", "The landscape"),
    Chapter("guidance", "Guidance"),
    Chapter("steering", "Steering"),
    Chapter("spaces", "Other spaces"),
)


def explore(out: str | Path = "explore.html") -> Path:
    """Write the post as a page with instruments: one self-contained HTML file.

    The small flow maps of the page were trained by this library (`make explore` trains them again), and the page
    evaluates them itself.

    Args:
        out: The file.

    Returns:
        Its path.

    Raises:
        ImportError: jinja2 is not installed.
        OSError: The file cannot be written.
    """
    parts = {path.stem: json.loads(path.read_text()) for path in sorted(POST.glob("*.json"))}
    write_text(Path(out), explore_page("explore/post.html.j2", parts, chapters=CHAPTERS))
    return Path(out)


def explore_page(template: str, data: Mapping[str, Any], **values: Any) -> str:
    """Fill the template of a page with instruments.

    Args:
        template: Its name.
        data: Values of JSON, which the instruments read.
        **values: Values of the template.

    Returns:
        The HTML text.
    """
    return render(template, data=in_script(data), modules=import_map(), main=script("scripts/main.js"), **values)


def in_script(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def script(path: str) -> str:
    """The text of a script of this folder."""
    return (HERE / path).read_text()


def import_map() -> str:
    """All scripts by the names under which they import each other; the file has no other place for them."""
    paths: Sequence[Path] = sorted([*HERE.glob("scripts/*.js"), *HERE.glob("instruments/*.js")])
    imports = {
        path.stem if path.parent.name == "scripts" else f"instruments/{path.stem}": "data:text/javascript;base64,"
        + base64.b64encode(path.read_bytes()).decode()
        for path in paths
        if path.stem != "main"
    }
    return in_script({"imports": imports})
