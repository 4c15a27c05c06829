"""Files of moving pictures: .gif by Pillow, .mp4 by ffmpeg."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import install
from ..files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILMS = (".gif", ".mp4")
"""Suffixes of moving pictures."""
RATE = 25
"""Frames a second of an .mp4 file."""
COLOURS = 128
"""Number of colours of a .gif file."""
SEEN = 8
"""Largest number of frames that the colours are chosen from."""
NEAR = 8
"""Largest difference of a colour from the background at which it becomes the background, in levels of 256."""


def check_film(path: Path) -> None:
    """Refuse a file of another type, and an .mp4 file without ffmpeg, before any work is done.

    Args:
        path: The file.

    Raises:
        ImportError: A package or program that writes it is missing.
        ValueError: It is no moving picture.
    """
    suffix = path.suffix.lower()
    if suffix not in FILMS:
        raise ValueError(f"moving pictures are written as {' or '.join(FILMS)}, got {path}")
    try:
        from matplotlib.animation import FFMpegWriter
        from PIL import Image  # noqa: F401
    except ImportError as error:
        raise ImportError(f"moving pictures need matplotlib and Pillow: {install('plot')}") from error
    if suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise ImportError(
            "an .mp4 file needs the program ffmpeg, which is not installed: install it (apt install ffmpeg, brew "
            "install ffmpeg, winget install ffmpeg), or write a .gif file"
        )


def write_film(path: Path, figure: Figure, frames: Iterable[Any], durations: Sequence[float]) -> None:
    """Write a figure that changes.

    Args:
        path: The file, which `check_film` has checked.
        figure: The figure.
        frames: An iterator that changes the figure for each frame.
        durations: The time for which each frame is shown, in seconds.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as temporary:
        (_mp4 if path.suffix.lower() == ".mp4" else _gif)(temporary, figure, frames, durations)


def _gif(path: Path, figure: Figure, frames: Iterable[Any], durations: Sequence[float]) -> None:
    """Write a .gif file that begins again at its end. All frames share their colours, so that nothing flickers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas, pictures = FigureCanvasAgg(figure), []
    for _ in frames:
        canvas.draw()
        pictures.append(Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB"))
    some = pictures[:: -(-len(pictures) // SEEN)]
    sheet = Image.new("RGB", (pictures[0].width, pictures[0].height * len(some)))
    for place, picture in enumerate(some):
        sheet.paste(picture, (0, place * picture.height))
    colours: Any = sheet.quantize(COLOURS, dither=Image.Dither.NONE).getpalette()
    background: Any = sheet.getpixel((0, 0))
    for at in range(0, len(colours), 3):
        if all(abs(one - other) <= NEAR for one, other in zip(colours[at : at + 3], background, strict=True)):
            colours[at : at + 3] = background  # Pillow finds colours to a few levels, and a page would show the edge
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    told = [round(1000 * duration) for duration in durations]
    first.save(path, save_all=True, append_images=others, duration=told, loop=0, optimize=False)


def _mp4(path: Path, figure: Figure, frames: Iterable[Any], durations: Sequence[float]) -> None:
    """Write an .mp4 file; a frame that is shown longer comes several times."""
    from matplotlib.animation import FFMpegWriter

    writer = FFMpegWriter(fps=RATE, metadata={"comment": "flowmaps"})
    shown, written = 0.0, 0
    with writer.saving(figure, str(path), figure.dpi):
        for _, duration in zip(frames, durations, strict=True):
            shown += duration
            while written < round(shown * RATE):
                writer.grab_frame()
                written += 1
