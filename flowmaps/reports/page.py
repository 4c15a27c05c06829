"""Pages from templates, and the pictures and tables in them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import install
from ..figures import words
from ..figures.style import Theme, dark, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).with_name("templates")


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
    """

    source: str
    alt: str
    title: str = ""
    note: str = ""
    kind: str = "framed"
    dark: str = ""


@dataclass(frozen=True)
class Table:
    """A table in a page.

    Attributes:
        head: The names of the columns.
        rows: (CSS class, cells) of each row; the first cell is the row's heading.
        kind: CSS class, such as "dense" for many columns.
    """

    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    kind: str = ""


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
    environment.globals["words"] = words
    return environment.get_template(template).render(values)


def image(png: bytes, alt: str, title: str = "", note: str = "", kind: str = "framed") -> Picture:
    """Make a picture of a PNG file.

    Args:
        png: The bytes of the file.
        alt: The alternative text.
        title: The first line of the caption.
        note: The rest of the caption.
        kind: CSS classes.

    Returns:
        The picture, with its data in the page.
    """
    return Picture(f"data:image/png;base64,{base64.b64encode(png).decode()}", alt, title, note, kind)


def drawing(
    draw: Callable[[Theme], Figure], alt: str, title: str = "", note: str = "", kind: str = "figure"
) -> Picture:
    """Make a picture of a figure as vectors, in both themes; the browser's setting chooses one.

    Args:
        draw: Function from a theme to the figure.
        alt: The alternative text.
        title: The first line of the caption.
        note: The rest of the caption.
        kind: CSS classes.

    Returns:
        The picture, with its data in the page.
    """
    bright, night = (svg(draw(theme), theme) for theme in (light, dark))
    return Picture(bright, alt, title, note, kind, night)


def svg(made: Figure, theme: Theme) -> str:
    """The data URI of a figure as an SVG without a background."""
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context(theme.settings()):
        made.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(text.getvalue().encode()).decode()
