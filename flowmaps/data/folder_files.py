"""The files of a kind below a folder, through links too, and words about entries that are no part of the data set."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset(".png .jpg .jpeg .jfif .webp .bmp .gif .tif .tiff .ppm .pgm".split())
"""Suffixes of image files, in lower case."""
UNREAD = frozenset(".heic .heif .avif .jxl .jp2 .j2k .jpx .dng .cr2 .nef .arw .tga .ico .psd .svg .exr .hdr".split())
"""Suffixes of images that are not read, in lower case."""


@dataclass(frozen=True)
class FileKind:
    """A kind of files that a data set is read from.

    Args:
        words: Its name in messages, a plural.
        suffixes: Suffixes of the files, in lower case.
        unread: Suffixes of such files in formats that are not read.
        into: The format that those should be converted into.
    """

    words: str
    suffixes: frozenset[str]
    unread: frozenset[str]
    into: str


IMAGES = FileKind("images", SUFFIXES, UNREAD, ".png")


def files_below(folder: Path, kind: FileKind) -> list[Path]:
    """Find the files of a kind below a folder, in the order of their paths.

    Links to files and folders are followed; a link to a folder that holds it is not. Hidden files and folders are left
    out. A warning names files of other formats.

    Args:
        folder: The folder.
        kind: The kind of files.

    Returns:
        The files, named below `folder`.

    Raises:
        FileNotFoundError: A link leads to nothing, so that files or a whole class would be missing.
    """
    found: list[Path] = []
    unread: list[Path] = []
    for entry in _walk(str(folder), ()):
        path = Path(entry.path)
        suffix = path.suffix.lower()
        if entry.is_symlink() and not path.exists() and (suffix in kind.suffixes or not suffix):
            raise FileNotFoundError(
                f"{path} is a link to {os.readlink(path)}, which does not exist: mend or remove the link"
            )
        if entry.is_file():
            found += [path] if suffix in kind.suffixes else []
            unread += [path] if suffix in kind.unread else []
    if unread and found:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in Counter(p.suffix.lower() for p in unread).items())
        warnings.warn(
            f"{len(unread)} {kind.words} of {folder} are in formats that are not read ({counts}; the first: "
            f"{unread[0].relative_to(folder)}): convert them to {kind.into}",
            stacklevel=5,
        )
    return sorted(found)


def warn_about_classes(folder: Path, classes: Sequence[str], words: str) -> None:
    """Warn about folders that hold no files, and about a class that holds folders and is the only one.

    Args:
        folder: The folder of the class folders.
        classes: Names of the class folders with files.
        words: Name of the kind of files in messages.
    """
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    empty = [path.name for path in inside if path.name not in classes and path.name != "__MACOSX"]
    if classes and empty:
        warnings.warn(
            f"{', '.join(empty)} in {folder} hold no {words} and are no classes; the classes are {', '.join(classes)}",
            stacklevel=5,
        )
    if len(classes) == 1:
        within = sorted(path.name for path in (folder / classes[0]).iterdir() if path.is_dir())
        if len(within) > 1:
            warnings.warn(
                f"all {words} of {folder} are in {classes[0]}, which is the only class; its folders "
                f"({', '.join(within[:5])}) are no classes: pass {folder / classes[0]} if they should be",
                stacklevel=5,
            )


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[os.DirEntry[str]]:
    """The entries below `folder` that are no folders. `above` are device and number of the folders that hold it."""
    status = os.stat(folder)
    chain = (*above, (status.st_dev, status.st_ino))
    if chain[-1] in above:
        return
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        if entry.is_dir():
            yield from _walk(entry.path, chain)
        else:
            yield entry
