"""Folders of images, flat or with one folder for each class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .cache import is_cache
from .check import HELD_OUT_NAMES
from .class_names import in_order
from .core import Data
from .decoding import Pictures, pillow
from .folder_files import IMAGES, FileKind, files_below, warn_about_classes
from .pictures import image_data
from .prompts import captions_of

TRAIN_NAMES = ("train", "training")
"""Usual names of the folder of training images."""
TEST_NAMES = (*HELD_OUT_NAMES, "testing")
"""Usual names of a folder of held-out images."""


def image_folder(
    path: str,
    /,
    *,
    size: int | tuple[int, int] | None = None,
    mode: str | None = None,
    labels: bool | None = None,
    captions: bool = False,
    value_range: tuple[float, float] | None = None,
) -> Data:
    """Read a folder of images as rows (C, H, W) in [-1, 1].

    Class folders become labels in the order of their names, or of their numbers if all of them are whole numbers. A
    folder that holds train and test (or validation, valid, val; in any case of letters) and nothing else keeps this
    split; otherwise a fifth, at most 10000 images, is held out. Links to files and folders are followed. Up to 512 MiB
    of decoded pixels are kept in memory; a larger set is decoded batch by batch. Broken images are left out, with a
    warning, and listed in `data.skipped`. Files with other suffixes are ignored, with a warning if they are images.

    Args:
        path: The folder.
        size: Side or (height, width) to which images are scaled and centre-cropped. None: all images must have the
            same size.
        mode: "RGB" or "L" (grey). None: "RGB" unless all images are grey.
        labels: False ignores class folders; True requires them. None: labels if there are class folders.
        captions: Whether to read a text for each image into `data.prompts`: from metadata.jsonl (lines with
            "file_name" and "text", as in `datasets`), captions.txt (file name, a tab, text), or a .txt file beside the
            image.
        value_range: (low, high), the values of images of more than 8 bits that become -1 and 1. None: 0 and the
            largest value of 8, 10, 12, 14 or 16 bits, by the largest value of all images; a warning names it if it is
            not 16. Floating-point pixels need it.

    Returns:
        The data set.

    Raises:
        ValueError: The folder is empty, has images of mixed sizes, images beside class folders, or images without the
            requested text.
        FileNotFoundError: A link leads to nothing.
        ImportError: pillow is not installed.
    """
    root = Path(path)
    found = files_of(root, labels, IMAGES)
    paths = found.paths
    names = [str(file.relative_to(root)) for file in paths]
    texts = captions_of(root, paths) if captions else None
    pictures = Pictures(
        names, lambda i: pillow().open(paths[i]), found.label, found.held, texts, lambda i: paths[i].read_bytes(), paths
    )
    options: Any = {"size": size, "mode": mode, "value_range": value_range}
    return image_data(pictures, str(root), class_names=found.classes or None, **options)


@dataclass(frozen=True, eq=False)
class Found:
    """The files of a data set in a folder.

    Args:
        paths: The files.
        label: Class of each file (N,). None: there are no classes.
        held: Whether a file is held out (N,). None: the folder does not say.
        classes: Names of the classes.
    """

    paths: list[Path]
    label: Tensor | None
    held: Tensor | None
    classes: list[str]


def files_of(root: Path, labels: bool | None, kind: FileKind) -> Found:
    """Find the files of a folder, their classes and their split, as in `image_folder`.

    Args:
        root: The folder.
        labels: False ignores class folders; True requires them. None: labels if there are class folders.
        kind: The kind of files.

    Returns:
        The files.

    Raises:
        ValueError: There are no files, or files beside class folders, or held-out files of other classes.
        FileNotFoundError: A link leads to nothing.
    """
    train, test = _split(root, kind.suffixes)
    train_files, train_classes = _files(train, labels, kind)
    test_files, test_classes = ([], []) if test is None else _files(test, labels, kind)
    if unknown := set(test_classes) - set(train_classes):
        raise ValueError(f"{test} has classes that {train} has not: {', '.join(sorted(unknown))}")
    files = train_files + test_files
    label = torch.tensor([train_classes.index(name) for _, name in files]) if train_classes else None
    held = None if test is None else torch.arange(len(files)) >= len(train_files)
    return Found([file for file, _ in files], label, held, train_classes)


def folder_order_changed(names: Sequence[str], recipe: Mapping[str, Any] | None) -> bool:
    """Whether versions before class names were kept in runs numbered these class folders in another order.

    They ordered all class folders by their letters, so 10 came before 2.

    Args:
        names: The class names in their order.
        recipe: The recipe of the data set. None: it was made from an object.

    Returns:
        Whether these are class folders that are all numbers, with another order by their letters.
    """
    from .hugging_face import is_saved

    place = Path(str((recipe or {}).get("name_or_path", "")))
    folder = recipe is None or (place.is_dir() and not (is_cache(place) or is_saved(place)))
    given = recipe is not None and "class_names" in recipe
    return folder and not given and list(names) == in_order(names) != sorted(names)


def _split(root: Path, suffixes: Collection[str]) -> tuple[Path, Path | None]:
    """The folders of training and held-out files: (`root`, None) if `root` holds other folders or no such ones."""
    inside = [entry for entry in root.iterdir() if entry.name[0] != "."]
    folders = {entry.name.lower(): entry for entry in inside if entry.is_dir() and entry.name != "__MACOSX"}
    train = [folders[name] for name in TRAIN_NAMES if name in folders]
    other = set(folders) - {*TRAIN_NAMES, *TEST_NAMES}
    if len(train) != 1 or other or any(entry.suffix.lower() in suffixes for entry in inside):
        return root, None
    return train[0], next((folders[name] for name in TEST_NAMES if name in folders), None)


def _files(folder: Path, labels: bool | None, kind: FileKind) -> tuple[list[tuple[Path, str]], list[str]]:
    """(file, class name) of every file in order, and the class names, which may be empty."""
    found = files_below(folder, kind)
    if not found:
        raise ValueError(
            f"no {kind.words} in {folder}: expected files ending in {', '.join(sorted(kind.suffixes))}, in it or in "
            "class folders"
        )
    groups = [file.relative_to(folder).parts[0] if file.parent != folder else "" for file in found]
    classes = in_order(set(groups) - {""})
    if labels is False or not classes:
        if labels and not classes:
            raise ValueError(f"labels=True needs class folders, and the {kind.words} lie directly in {folder}")
        return [(file, "") for file in found], []
    if "" in groups:
        raise ValueError(
            f"{folder} has {kind.words} beside class folders ({found[groups.index('')].name} and {classes[0]}{'/'}): "
            "move them, or pass labels=False to read all without labels"
        )
    warn_about_classes(folder, classes, kind.words)
    return list(zip(found, groups, strict=True)), classes
