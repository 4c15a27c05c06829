"""The style of all figures, light and dark: colours for every kind of colour vision, readable sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import install
from ..files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHADES = "cividis"
"""The colour map for amounts: from dark to bright in even steps, readable with colour blindness."""


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        background: Colour of the page.
        text: Colour of labels and titles.
        muted: Colour of ticks and secondary marks.
        rule: Colour of axes and grids.
        series: Colours of lines and marks, in order (Okabe and Ito 2008, lightened for the dark theme).
    """

    background: str
    text: str
    muted: str
    rule: str
    series: tuple[str, ...]

    def settings(self) -> Any:
        """The theme as matplotlib's rc parameters: a dict of names and values."""
        from cycler import cycler

        return {
            "figure.facecolor": self.background,
            "axes.facecolor": self.background,
            "savefig.facecolor": self.background,
            "text.color": self.text,
            "axes.labelcolor": self.text,
            "axes.titlecolor": self.text,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "xtick.labelcolor": self.text,
            "ytick.labelcolor": self.text,
            "axes.edgecolor": self.rule,
            "grid.color": self.rule,
            "axes.prop_cycle": cycler(color=self.series),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.labelsize": 12,
            "font.size": 12,
            "legend.frameon": False,
            "legend.fontsize": 12,
            "lines.linewidth": 2,
            "figure.dpi": 120,
            "svg.hashsalt": "flowmaps",
        }


light = Theme("#ffffff", "#1b2128", "#5b6672", "#d5dbe2", ("#0072b2", "#d55e00", "#009e73", "#a3528a", "#5b6672"))
dark = Theme("#14191f", "#e8edf2", "#9aa6b2", "#38424d", ("#56b4e9", "#f0944d", "#35c9a0", "#d48fbb", "#9aa6b2"))


@contextmanager
def figure(
    theme: Theme, width: float, height: float, path: str | Path | None = None, **layout: Any
) -> Iterator[tuple[Figure, Any]]:
    """Open an empty figure to draw in, and save it at the end of the block.

    Use it as `with figure(light, 6, 4, path) as (made, axes):`; it is `plt.subplots` without pyplot's global state.

    Args:
        theme: The colours.
        width: Width in inches.
        height: Height in inches.
        path: The file to save; its suffix chooses the format. None: not saved.
        **layout: Rows, columns and ratios, as for `Figure.subplots`.

    Yields:
        The figure and its axes.

    Raises:
        ImportError: If matplotlib is not installed.
        OSError: If the file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"figures need matplotlib: {install('plot')}") from error
    with matplotlib.rc_context(theme.settings()):
        made = Figure(figsize=(width, height), layout="constrained")
        yield made, made.subplots(**layout)
        if path is not None:
            with replacing(path if Path(path).suffix else f"{path}.png") as temporary:
                # only encoders that lose something have a quality
                lossy = temporary.suffix.lower() in (".jpg", ".jpeg", ".webp")
                options: dict[str, Any] = {"pil_kwargs": {"quality": 95}} if lossy else {}
                made.savefig(temporary, **options)
