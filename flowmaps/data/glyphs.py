"""The glyphs of the fonts that come with matplotlib, as grey images of any size: labels by script or by style."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from ..arguments import between, checked, did_you_mean, install, listed, shown
from ..files import checksum, opened_tensors, replacing, save_tensors, tensors_checksum
from .core import Data
from .scripts import SCRIPTS, STYLES, kinship, script_of, style
from .sources import TensorRows, hold_out

Property = Literal["script", "style"]
BOTH = tuple(f"{script}, {style}" for script in SCRIPTS for style in STYLES)
NAMED = {"script": SCRIPTS, "style": STYLES, "both": BOTH}
"""Names of the classes for each choice of the labels."""
LAST_RESORT = "LastResort"
"""First letters of the font with a picture for every code point, which is left out."""
HELD_OUT = 0.1
"""Share of the characters whose glyphs are held out."""
VERSION = 1
"""Version of the drawing. It is part of the name of a cache file."""


@checked
def glyphs(
    size: int = 16,
    fonts: Sequence[str] | str | None = None,
    label: Literal["script", "style", "both"] = "script",
    given: Sequence[Property] = (),
) -> Data:
    """The glyphs of the fonts that come with matplotlib: (1, size, size), 256 grey levels, ink 1 on -1.

    The 39 fonts are DejaVu, STIX and Computer Modern (BaKoMa); the last-resort font is left out. Every glyph with a
    code in its font and with ink is drawn, which gives 42,700 different pictures. The em is as high as the image, a
    glyph that would come nearer to the border than size // 16 pixels is drawn smaller, and its ink is centred. A
    picture that several characters or fonts share is kept once, with its first font and lowest code, so an A that
    serves three scripts is Latin.

    A tenth of the characters is held out, with all their glyphs in all fonts. Characters with one compatibility form,
    such as a letter and its mathematical alphabets, are held out together. The choice is a digest of the character,
    alike for all sizes and fonts.

    FreeType draws the outlines without hints, in whole numbers, so pixels are the same on every machine with this
    version of matplotlib. They are kept in a file in $XDG_CACHE_HOME/flowmaps, or ~/.cache/flowmaps.

    Licences: DejaVu is free under the licence of Bitstream Vera, its changes are in the public domain; STIX is free
    under its own licence; Computer Modern is free under the BaKoMa Fonts Licence. Their texts come with matplotlib.
    All allow the use of pictures of glyphs.

    Args:
        size: Height and width in pixels, 16 to 64.
        fonts: Names of font files without ending, a list or a text such as "DejaVuSans, cmr10". None: all.
        label: The classes: "script" (19, also mathematics, arrows, symbols and others, by names in Unicode), "style"
            (12: sans, serif and mono, each also bold, italic and both), or "both" (228 pairs, not all in use).
        given: Other conditions, among "script" and "style", for a network of yours that takes arguments with these
            names: numbers (B,) of the classes.

    Returns:
        The data set.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: The size is out of range, or there is no such font, label or condition.
        FileNotFoundError: This installation of matplotlib has no fonts.
    """
    between(16, 64, size=size)
    if not isinstance(label, str) or label not in NAMED:
        raise ValueError(f"label must be one of {', '.join(NAMED)}, got {shown(label)}")
    if not isinstance(given, list | tuple) or any(name not in get_args(Property) for name in given):
        raise ValueError(f"given must be a list of {' and '.join(get_args(Property))}, got {shown(given)}")
    drawn = _cached(_chosen(fonts), size)
    classes = {name: drawn[name].long() for name in get_args(Property)}
    classes["both"] = classes["script"] * len(STYLES) + classes["style"]
    conditions: dict[str, Tensor] = {name: classes[name] for name in given}
    rows = TensorRows(drawn["picture"][:, None], classes[label], given=conditions or None)
    source, names = hold_out(rows, drawn["kin"] < HELD_OUT * 2**63), NAMED[label]
    return Data("glyphs", (1, size, size), source, "images", len(names), names, levels=256, given=tuple(given))


def font_files() -> dict[str, Path]:
    """The font files of matplotlib by name without ending, but for the last-resort font, in the order of their names.

    Raises:
        ImportError: matplotlib is not installed.
        FileNotFoundError: There are none.
    """
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        raise ImportError(f"the glyphs come with the fonts of matplotlib: {install('data')}") from error
    folder = Path(get_data_path()) / "fonts" / "ttf"
    found = {path.stem: path for path in sorted(folder.glob("*.ttf")) if not path.stem.startswith(LAST_RESORT)}
    if not found:
        raise FileNotFoundError(f"this installation of matplotlib has no fonts in {folder}: install it from PyPI")
    return found


def _chosen(fonts: Sequence[str] | str | None) -> dict[str, Path]:
    """The font files with these names, in the order of `font_files`. Raises ValueError for another name."""
    found = font_files()
    if fonts is None:
        return found
    names = listed(fonts) if isinstance(fonts, str) else fonts
    are_names = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    for name in names if are_names and names else [""]:
        if name not in found:
            near = did_you_mean(name, found)
            raise ValueError(f"fonts must be names among {', '.join(found)}, got {shown(fonts)}{near}")
    return {name: path for name, path in found.items() if name in names}


def _cached(fonts: Mapping[str, Path], size: int) -> dict[str, Tensor]:
    """The drawn glyphs from their file, or drawn anew and written; a file that is damaged is drawn anew."""
    import matplotlib
    from matplotlib import ft2font

    versions = [VERSION, matplotlib.__version__, ft2font.__freetype_version__, unicodedata.unidata_version]
    origin = json.dumps([size, *versions, {name: checksum(path) for name, path in fonts.items()}])
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(origin.encode()).hexdigest()
    path = home / "flowmaps" / f"glyphs-{size}-{key[:16]}.safetensors"
    kept = _read(path, origin) if path.is_file() else None
    if kept is not None:
        return kept
    tensors = _drawn(fonts, size)
    try:
        with replacing(path) as temporary:
            save_tensors(temporary, tensors, {"sha256": tensors_checksum(origin, tensors)})
    except OSError as error:
        warnings.warn(f"the glyphs are drawn anew each time, as they cannot be kept: {error}", stacklevel=4)
    return tensors


def _read(path: Path, origin: str) -> dict[str, Tensor] | None:
    """The tensors of a cache file; None if it is damaged or has another origin."""
    try:
        with opened_tensors(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            known = (file.metadata() or {}).get("sha256")
    except (ValueError, OSError):
        return None
    return tensors if known == tensors_checksum(origin, tensors) else None


def _drawn(fonts: Mapping[str, Path], size: int) -> dict[str, Tensor]:
    """Draw the glyphs of fonts, each picture once.

    Args:
        fonts: The font files by name.
        size: Height and width in pixels.

    Returns:
        "picture" (N, size, size), "script" and "style" (N,), numbers of classes, all uint8; "kin" (N,), 63 bits of a
        digest that all glyphs of a character share.
    """
    import numpy as np

    rows: dict[bytes, tuple[int, int, int]] = {}
    for name, path in fonts.items():
        of_font = STYLES.index(style(name))
        for code, glyph, picture in _pictures(path, size):
            kin = hashlib.sha256(kinship(name, code, glyph).encode()).digest()
            about = (SCRIPTS.index(script_of(name, code, glyph)), of_font, int.from_bytes(kin[:8], "big") >> 1)
            rows.setdefault(picture, about)
    pictures = np.frombuffer(bytearray().join(rows), dtype=np.uint8).reshape(-1, size, size)
    scripts, styles, kins = (torch.tensor(column) for column in zip(*rows.values(), strict=True))
    drawn = {"script": scripts.to(torch.uint8), "style": styles.to(torch.uint8), "kin": kins}
    return {"picture": torch.from_numpy(pictures), **drawn}


def _pictures(path: Path, size: int) -> Iterator[tuple[int, str, bytes]]:
    """The glyphs of a font with a code and ink: code, name, and pixels row by row, centred."""
    import numpy as np
    from matplotlib.ft2font import FT2Font, LoadFlags

    font = FT2Font(path)
    room, border = size - 2 * (size // 16) - 1, 2  # an outline can lie across one pixel more than its length
    for code, index in sorted(font.get_charmap().items()):
        if index == 0:  # .notdef, the box for a missing character
            continue
        font.set_size(size, 72)
        glyph = font.load_glyph(index, LoadFlags.NO_HINTING)
        left, bottom, right, top = glyph.bbox  # in 1/64 of a pixel
        largest = max(right - left, top - bottom) / 64
        if largest > room:
            font.set_size(size * room / largest, 72)
            glyph = font.load_glyph(index, LoadFlags.NO_HINTING)
        canvas = np.zeros((size + 2 * border, size + 2 * border), dtype=np.uint8)
        font.draw_glyph_to_bitmap(canvas, border - (glyph.bbox[0] >> 6), border, glyph, antialiased=True)
        down, across = (np.flatnonzero(canvas.any(axis)) for axis in (1, 0))
        if not len(down):
            continue
        ink = canvas[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
        picture = np.zeros((size, size), dtype=np.uint8)
        y, x = ((size - side) // 2 for side in ink.shape)
        picture[y : y + ink.shape[0], x : x + ink.shape[1]] = ink
        yield code, cast(Any, font).get_glyph_name(index), picture.tobytes()
