"""Encoded images as data: a small set is decoded once into memory, a large one batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .check import check_labels
from .core import IN_MEMORY, Batch, Data
from .prompts import Prompts
from .sources import IndexedRows, TensorRows, from_bytes, hold_out

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

GREY = frozenset(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"))


@dataclass(frozen=True, eq=False)
class Pictures:
    """Encoded images.

    Args:
        names: Name of each image in messages.
        open: Function that opens the i-th image.
        label: Labels (N,).
        held: Boolean mask (N,) of the held-out images. None: the set has no split of its own.
        texts: Text of each image.
    """

    names: Sequence[str]
    open: Callable[[int], Image]
    label: Tensor | None = None
    held: Tensor | None = None
    texts: Sequence[str] | None = None


@dataclass(frozen=True)
class Shape:
    """The common format of the images.

    Args:
        size: (height, width) to which images are scaled and cropped.
        mode: "RGB" or "L".
    """

    size: tuple[int, int]
    mode: str

    @property
    def channels_first(self) -> tuple[int, int, int]:
        """Shape of an image as a tensor (C, H, W)."""
        return (3 if self.mode == "RGB" else 1, *self.size)

    def __call__(self, image: Image) -> Tensor:
        """Turn an image upright, scale and centre-crop it to `size`, and convert it: uint8 (C, H, W)."""
        import numpy as np
        from PIL import ImageOps

        image = in_mode(ImageOps.exif_transpose(image), self.mode)
        height, width = self.size
        image = image if image.size == (width, height) else ImageOps.fit(image, (width, height))
        return torch.from_numpy(np.array(image)).reshape(height, width, -1).movedim(-1, 0)


def in_mode(image: Image, mode: str) -> Image:
    """Convert an image to "RGB" or "L". 16 bits become 8, and transparent images get a white background."""
    import numpy as np
    from PIL import Image as images

    if image.mode.startswith("I"):
        image = images.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = images.alpha_composite(images.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


@dataclass(frozen=True, eq=False)
class FileRows:
    """A table of images that are decoded when they are taken.

    A broken image is entered in `skipped`, and the next readable one of the same batch replaces it, so that batches
    stay full and never use other rows.

    Args:
        pictures: The images.
        rows: Numbers of the images of this table.
        shape: Their common format.
        skipped: Broken images, each with its reason.
    """

    pictures: Pictures
    rows: Tensor
    shape: Shape
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `sources.IndexedRows`. Raises ValueError if none can be read."""
        rows = self.rows[index].tolist()
        decoded = _parallel(lambda row: _attempt(self.pictures, row, self.shape), rows)
        self._enter([pixels for pixels in decoded if isinstance(pixels, str)])
        whole = {place: pixels for place, pixels in enumerate(decoded) if isinstance(pixels, Tensor)}
        if not whole:
            raise ValueError(f"none of these {len(rows)} images can be read: {decoded[0]}")
        used = [
            next(at % len(rows) for at in range(place, place + len(rows)) if at % len(rows) in whole)
            for place in range(len(rows))
        ]
        label = None if self.pictures.label is None else self.pictures.label[[rows[place] for place in used]]
        return Batch(from_bytes(torch.stack([whole[place] for place in used])), label)

    def _enter(self, broken: list[str]) -> None:
        """Enter broken images in `skipped`, with a warning for new ones."""
        new = [name for name in dict.fromkeys(broken) if name not in self.skipped]
        if new:
            warnings.warn(
                f"{len(new)} images cannot be read, and others of their batch stand in: {'; '.join(new)}", stacklevel=3
            )
        self.skipped.extend(new)


def image_data(
    pictures: Pictures,
    name: str,
    *,
    class_names: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    mode: str | None = None,
) -> Data:
    """Make a data set of encoded images.

    Args:
        pictures: The images.
        name: Name in messages and tables.
        class_names: Names of the classes.
        size: Side or (height, width) to which images are scaled and cropped. None: their common size.
        mode: "RGB" or "L". None: "RGB" unless all images are grey.

    Returns:
        The data set.

    Raises:
        ValueError: There are no readable images, they have mixed sizes, or an option or the labels are wrong.
    """
    wanted = (size, size) if isinstance(size, int) else None if size is None else (size[0], size[1])
    if mode not in (None, "RGB", "L") or (wanted is not None and min(wanted) < 1):
        raise ValueError(f'size must be positive and mode "RGB" or "L", got size {size} and mode {mode}')
    names = None if class_names is None else tuple(class_names)
    _, count = check_labels(pictures.label, len(pictures.names), name, None if names is None else len(names))
    looks = _parallel(lambda row: _attempt(pictures, row, _look), range(len(pictures.names)))
    skipped = [look for look in looks if isinstance(look, str)]
    readable = {row: look for row, look in enumerate(looks) if not isinstance(look, str)}
    _any_left(len(readable), skipped, name)
    shape = _shape(pictures.names, readable, name, wanted, mode)
    rows, kept = _rows(pictures, list(readable), shape, skipped)
    _any_left(len(kept), skipped, name)
    if skipped:
        shown = "; ".join(skipped[:5]) + ("; ..." if len(skipped) > 5 else "")
        warnings.warn(
            f"{len(skipped)} of {len(looks)} images of {name} cannot be read and are left out: {shown}", stacklevel=3
        )
    source = hold_out(rows, None if pictures.held is None else pictures.held[kept])
    data = Data(name, shape.channels_first, source, "images", count, names, levels=256, skipped=skipped)
    if pictures.texts is None:
        return data
    return replace(data, prompts=Prompts.of_rows([pictures.texts[row] for row in kept.tolist()]))


def _rows(pictures: Pictures, readable: list[int], shape: Shape, skipped: list[str]) -> tuple[IndexedRows, Tensor]:
    """The table of images and their numbers. Small sets are decoded now, which finds more broken images."""
    if len(readable) * torch.Size(shape.channels_first).numel() > IN_MEMORY:
        rows = torch.tensor(readable)
        return FileRows(pictures, rows, shape, skipped), rows
    decoded = _parallel(lambda row: _attempt(pictures, row, shape), readable)
    skipped.extend(pixels for pixels in decoded if isinstance(pixels, str))
    whole = {row: pixels for row, pixels in zip(readable, decoded, strict=True) if isinstance(pixels, Tensor)}
    kept = torch.tensor(list(whole), dtype=torch.int64)
    x = torch.stack(list(whole.values())) if whole else torch.empty(0)
    return TensorRows(x, None if pictures.label is None else pictures.label[kept]), kept


def _shape(
    names: Sequence[str],
    readable: dict[int, tuple[Any, Any]],
    where: str,
    size: tuple[int, int] | None,
    mode: str | None,
) -> Shape:
    """The requested size and mode, or those that all images share."""
    first, (height_width, _) = next(iter(readable.items()))
    for row, (other, _) in readable.items():
        if size is None and other != height_width:
            one = f"{names[first]} is {height_width[0]} x {height_width[1]}"
            another = f"{names[row]} is {other[0]} x {other[1]}"
            raise ValueError(
                f"images of {where} have different sizes (height x width): {one}, {another}; "
                "pass size=SIDE or size=(height, width) to scale and crop them"
            )
    return Shape(size or height_width, mode or ("L" if all(grey for _, grey in readable.values()) else "RGB"))


def _look(image: Image) -> tuple[tuple[int, int], bool]:
    """((height, width), whether it is grey) from the header, for the upright image."""
    width, height = image.size
    # pillow decodes a whole PNG to look for EXIF data behind its pixels
    exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
    sideways = exif.get(0x0112, 1) >= 5
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    return ((width, height) if sideways else (height, width)), image.mode in GREY


def _attempt(pictures: Pictures, row: int, make: Callable[[Image], T]) -> T | str:
    """make(image), or "name: reason" if the image is broken. Raises FileNotFoundError for a missing file."""
    try:
        with pictures.open(row) as image:
            return make(image)
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:  # decoders raise nearly every kind of exception for unknown bytes
        return f"{pictures.names[row]}: {error}"


def _any_left(count: int, skipped: Sequence[str], where: str) -> None:
    """Raise ValueError if no image is left."""
    if count == 0:
        raise ValueError(
            f"no image of {where} can be read, the first of {len(skipped)}: {skipped[0]}"
            if skipped
            else f"{where} holds no images"
        )


def _parallel(function: Callable[[int], T], rows: Iterable[int]) -> list[T]:
    """[function(row) for row in rows] in threads: decoders release the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, rows))


def pillow() -> Any:
    """The module PIL.Image. Raises ImportError without pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("image files are read with pillow: pip install flowmaps[data]") from error
    return Image
