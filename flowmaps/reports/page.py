"""The pieces of an HTML page that needs nothing but itself: style, pictures as data, tables."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

from ..figures.style import Theme, dark, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1b2128; --muted: #5b6672; --rule: #d5dbe2; --card: #f4f6f9;
  --accent: #0072b2; --strong: #e3f0f8; }
@media (prefers-color-scheme: dark) { :root { --page: #14191f; --text: #e8edf2; --muted: #9aa6b2; --rule: #38424d;
  --card: #1c232b; --accent: #56b4e9; --strong: #1c3546; } }
* { box-sizing: border-box; } body { margin: 0; background: var(--page); color: var(--text); font: 17px/1.55
system-ui, "Segoe UI", Roboto, sans-serif; } main { max-width: 1120px; margin: 0 auto; padding: 1.6rem 1.2rem 4rem; }
h1 { font-size: clamp(1.5rem, 3.6vw, 2.25rem); line-height: 1.2; margin: .2rem 0 .6rem; text-wrap: balance; } h2 {
font-size: 1.3rem; margin: 2.8rem 0 .4rem; } p { max-width: 48rem; margin: .4rem 0 1rem; } .eyebrow, .note, figcaption
{ color: var(--muted); font-size: .95rem; } .eyebrow { margin: 0; letter-spacing: .02em; } .panels { display: grid;
gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 178px), 1fr)); margin: 1rem 0; } .panels.wide {
grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); } figure { margin: 0; } figure.framed {
background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: .6rem; } figure.chosen { border:
2px solid var(--accent); background: var(--strong); } figure img { display: block; width: 100%; height: auto; }
figure.figure { max-width: 760px; } .pixels { image-rendering: pixelated; } figcaption { margin-top: .5rem;
line-height: 1.35; overflow-wrap: anywhere; } figcaption b { display: block; color: var(--text); font-size: 1.05rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .2rem 0 .5rem; caption-side: bottom; } th, td { text-align: right; padding:
.45rem .7rem; border-bottom: 1px solid var(--rule); white-space: nowrap; } th:first-child, td:first-child {
text-align: left; } th { font-weight: 600; } thead th { color: var(--muted); font-size: .95rem; vertical-align:
bottom; white-space: normal; } tr.chosen > * { background: var(--strong); font-weight: 600; } tr.floor > * { color:
var(--muted); font-style: italic; } table.dense :is(th, td) { padding: .4rem .3rem; font-size: .9rem; } details {
margin: 1rem 0; } summary { cursor: pointer; color: var(--accent); } dl { display: grid; grid-template-columns:
max-content 1fr; gap: .3rem 1.2rem; margin: 1rem 0; } dt { color: var(--muted); } dd { margin: 0; overflow-wrap:
anywhere; } pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 1rem; overflow:
auto; max-height: 30rem; font-size: .85rem; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{chr(10).join(part for part in parts if part)}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading with what follows it; nothing where nothing does."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>" if any(parts) else ""


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>"


def picture(png: bytes, alt: str, caption: str = "", kind: str = "framed") -> str:
    """An image, as wide as there is room. caption: HTML."""
    data = base64.b64encode(png).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
    return f"<figure{_class(kind)}>{image}{_caption(caption)}</figure>"


def drawing(draw: Callable[[Theme], Figure], alt: str, caption: str = "", kind: str = "figure") -> str:
    """A figure in both themes, as vectors; the reader's own setting chooses. caption: HTML."""
    bright, night = (svg(draw(theme), theme) for theme in (light, dark))
    return (
        f'<figure{_class(kind)}><picture><source media="(prefers-color-scheme: dark)" srcset="{night}">'
        f'<img src="{bright}" alt="{escape(alt)}"></picture>{_caption(caption)}</figure>'
    )


def svg(made: Figure, theme: Theme) -> str:
    """A figure as the data URI of an SVG without a background of its own."""
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context(theme.settings()):
        made.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(text.getvalue().encode()).decode()


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], caption: str = "", kind: str = "") -> str:
    """Rows are (kind, cells); the first cell is the row's heading. caption: a note below the table. kind: "dense" for
    many columns.
    """
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = []
    for kind, (first, *others) in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f'<tr{_class(kind)}><th scope="row">{escape(first)}</th>{cells}</tr>')
    below = f'<p class="note">{escape(caption)}</p>' if caption else ""
    inside = f"<thead><tr>{top}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>"
    return f'<div class="scroll"><table{_class(kind)}>{inside}</table></div>{below}'


def panels(figures: Iterable[str], kind: str = "") -> str:
    """Figures side by side, as many as there is room for."""
    inside = "\n".join(figures)
    return f'<div class="panels {kind}">\n{inside}\n</div>' if inside else ""


def details(summary: str, *parts: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n" + "\n".join(parts) + "\n</details>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and values."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs) + "</dl>"


def code(text: str) -> str:
    return f'<pre tabindex="0">{escape(text)}</pre>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _caption(caption: str) -> str:
    return f"<figcaption>{caption}</figcaption>" if caption else ""
