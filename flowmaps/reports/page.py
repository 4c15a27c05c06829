"""Pages from templates, and the pictures and tables in them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import install
from ..figures import words
from ..figures.style import Theme, dark, light
from .downloads import csv_file, json_file
from .readings import Places, Read, placed

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("readings.js", "way.js", "gallery.js", "pictures.js")
"""The scripts of every page, in order. A page that is read without scripts lacks no number and no picture."""
MARGIN = 0.1
"""The margin of a picture in inches."""


@dataclass(frozen=True)
class Picture:
    """An image in a page.

    Attributes:
        source: A data URI.
        alt: The alternative text.
        title: The first line of the caption, bold.
        note: The rest of the caption.
        kind: CSS classes: "figure", "framed", "framed chosen" or "strip".
        dark: The data URI for dark mode; "" for the same image.
        places: Values that a reader can point at.
    """

    source: str
    alt: str
    title: str = ""
    note: str = ""
    kind: str = "framed"
    dark: str = ""
    places: Sequence[Places] = ()


@dataclass(frozen=True)
class Table:
    """A table in a page.

    Attributes:
        head: The names of the columns.
        rows: (CSS class, cells) of each row; the first cell is the row's heading.
        kind: CSS class, such as "dense" for many columns.
        name: The name of its files for download, without a suffix.
    """

    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    kind: str = ""
    name: str = "table"

    @property
    def files(self) -> dict[str, str]:
        """The table as files: their names and their data URIs."""
        rows = [cells for _, cells in self.rows]
        return {f"{self.name}.csv": csv_file(self.head, rows), f"{self.name}.json": json_file(self.head, rows)}


def render(template: str, **values: Any) -> str:
    """Fill a template; all values are escaped.

    Args:
        template: The name of a file in `templates/`.
        **values: The values of the template, beside `words`.

    Returns:
        The HTML text.

    Raises:
        ImportError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError(f"reports need jinja2: {install('plot')}") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = scripts()
    environment.filters["asdict"] = asdict
    environment.globals |= {"words": words, "script": Markup(script), "digest": digest(script)}  # noqa: S704
    return environment.get_template(template).render(values)


def scripts() -> str:
    """The scripts of a page as one text, each in a block of its own."""
    return "".join(f"{{\n{(TEMPLATES / name).read_text(encoding='utf-8')}}}\n" for name in SCRIPTS)


def digest(script: str) -> str:
    """The hash by which the policy of a page allows one script and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def image(
    content: bytes, alt: str, title: str = "", note: str = "", kind: str = "framed", suffix: str = "png"
) -> Picture:
    """Make a picture of an image file.

    Args:
        content: The bytes of the file.
        alt: The alternative text.
        title: The first line of the caption.
        note: The rest of the caption.
        kind: CSS classes.
        suffix: The format of the file: "png" or "webp".

    Returns:
        The picture, with its data in the page.
    """
    return Picture(f"data:image/{suffix};base64,{base64.b64encode(content).decode()}", alt, title, note, kind)


def drawing(
    draw: Callable[[Theme], Figure],
    alt: str,
    title: str = "",
    note: str = "",
    kind: str = "figure",
    read: Read | None = None,
) -> Picture:
    """Make a picture of a figure as vectors, in both themes; the browser's setting chooses one.

    Args:
        draw: Function from a theme to the figure.
        alt: The alternative text.
        title: The first line of the caption.
        note: The rest of the caption.
        kind: CSS classes.
        read: Function that finds the values that a reader can point at. None: no values.

    Returns:
        The picture, with its data in the page.
    """
    bright, night = draw(light), draw(dark)
    box = extent(bright, light)
    inches = (box.x0, box.y1, box.width, box.height)
    places = [placed(one, *(bright.dpi * edge for edge in inches)) for one in read(bright)] if read else []
    return Picture(svg(bright, light, box), alt, title, note, kind, svg(night, dark, extent(night, dark)), places)


def extent(made: Figure, theme: Theme) -> Bbox:
    """The part of a figure with all that is drawn, and a margin, in inches."""
    import matplotlib

    with matplotlib.rc_context(theme.settings()):
        made.draw_without_rendering()
        return made.get_tightbbox().padded(MARGIN)


def svg(made: Figure, theme: Theme, box: Bbox) -> str:
    """The data URI of a part of a figure as an SVG without a background."""
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context(theme.settings()):
        made.savefig(text, format="svg", transparent=True, bbox_inches=box, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(text.getvalue().encode()).decode()
