"""A folder of images, with class folders or flat."""

from __future__ import annotations

from pathlib import Path

import torch

from .core import Data
from .pictures import Pictures, image_data, pillow
from .prompts import captions_of

SUFFIXES = frozenset(".png .jpg .jpeg .jfif .webp .bmp .gif .tif .tiff .ppm .pgm".split())
HELD_OUT_FOLDERS = ("test", "validation", "valid", "val")


def image_folder(
    path: str,
    /,
    *,
    size: int | tuple[int, int] | None = None,
    mode: str | None = None,
    labels: bool | None = None,
    captions: bool = False,
) -> Data:
    """A folder of images, (C, H, W) in [-1, 1]: class folders become labels in the order of their names, a flat folder
    has none.

    size: a side or (height, width), to which images are scaled so that they cover it and then cut at the centre.
        Without it all images must have the same size.
    mode: "RGB" or "L" (grey); by default "RGB" unless all images are grey.
    labels: False reads class folders, and all below them, without labels.
    captions: True reads a text for each image into `data.prompts`: from metadata.jsonl (lines with "file_name" and
        "text", as `datasets` has it), captions.txt (file name, a tab, text), or a .txt file beside the image.
    A folder that holds train and test (or validation, valid, val) and no other folder is split so; otherwise a fifth,
    at most 10000, is held out. Up to 512 MiB of decoded pixels are kept in memory; a larger set is decoded batch by
    batch. Files that are no images by their suffix are passed over; broken ones are left out, with a warning, and
    listed in `data.skipped`.
    Raises ValueError for an empty folder, images of mixed sizes, images both beside and in class folders, images
    without the text that was asked for; ImportError without pillow.
    """
    root = Path(path)
    test = _test_folder(root)
    train_files, train_classes = _files(root if test is None else root / "train", labels)
    test_files, test_classes = ([], []) if test is None else _files(test, labels)
    if unknown := set(test_classes) - set(train_classes):
        raise ValueError(f"{test} has classes that {root / 'train'} has not: {', '.join(sorted(unknown))}")
    files = train_files + test_files
    label = torch.tensor([train_classes.index(name) for _, name in files]) if train_classes else None
    held = None if test is None else torch.arange(len(files)) >= len(train_files)
    names = [str(file.relative_to(root)) for file, _ in files]
    texts = captions_of(root, [file for file, _ in files]) if captions else None
    pictures = Pictures(names, lambda i: pillow().open(files[i][0]), label, held, texts)
    return image_data(pictures, str(root), class_names=train_classes or None, size=size, mode=mode)


def _test_folder(root: Path) -> Path | None:
    """The folder of held-out images, where `root` is split into train and one or more of these, and nothing else."""
    folders = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if "train" not in folders or not folders <= {"train", *HELD_OUT_FOLDERS}:
        return None
    return next((root / name for name in HELD_OUT_FOLDERS if name in folders), None)


def _files(folder: Path, labels: bool | None) -> tuple[list[tuple[Path, str]], list[str]]:
    """(file, class name) of every image in order, and the class names: none where the folder is flat or `labels` is
    False.
    """
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not found:
        raise ValueError(
            f"no images in {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}, in it or in class folders"
        )
    groups = [file.relative_to(folder).parts[0] if file.parent != folder else "" for file in found]
    classes = sorted(set(groups) - {""})
    if labels is False or not classes:
        if labels and not classes:
            raise ValueError(f"labels=True needs class folders, and the images lie directly in {folder}")
        return [(file, "") for file in found], []
    if "" in groups:
        raise ValueError(
            f"{folder} has images beside class folders ({found[groups.index('')].name} and {classes[0]}{'/'}): "
            "move them, or pass labels=False to read all without labels"
        )
    return list(zip(found, groups, strict=True)), classes
