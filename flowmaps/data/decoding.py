"""Encoded images and their decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ..arguments import install

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

GREY = frozenset(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"))
"""Modes of grey images in pillow."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Encoded images.

    Args:
        names: Name of each image in messages.
        open: Function that opens the i-th image.
        label: Labels (N,).
        held: Boolean mask (N,) of the held-out images. None: the set has no split of its own.
        texts: Text of each image.
        encoded: Function that reads the bytes of the i-th image, by which a resumed run notices other images.
        files: File of each image. None: they are not in files of their own.
    """

    names: Sequence[str]
    open: Callable[[int], Image]
    label: Tensor | None = None
    held: Tensor | None = None
    texts: Sequence[str] | None = None
    encoded: Callable[[int], bytes] | None = None
    files: Sequence[Path] | None = None


@dataclass(frozen=True)
class ImageFormat:
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


def header_of(image: Image) -> tuple[tuple[int, int], bool]:
    """((height, width), whether it is grey) from the header, for the upright image."""
    width, height = image.size
    # pillow decodes a whole PNG to look for EXIF data behind its pixels
    exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
    sideways = exif.get(0x0112, 1) >= 5
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    return ((width, height) if sideways else (height, width)), image.mode in GREY


def attempt(pictures: Pictures, row: int, make: Callable[[Image], T]) -> T | str:
    """make(image), or "name: reason" if the image is broken. Raises FileNotFoundError for a missing file."""
    try:
        with pictures.open(row) as image:
            check_pixels(image)
            return make(image)
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:  # decoders raise nearly every kind of exception for unknown bytes
        return f"{pictures.names[row]}: {error}"


def check_pixels(image: Image) -> None:
    """Raise ValueError for an image that claims more pixels than pillow takes for safe, before they are decoded."""
    width, height = image.size
    most = pillow().MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        raise ValueError(
            f"it claims {width} x {height} pixels, more than {most} (PIL.Image.MAX_IMAGE_PIXELS); scale it down"
        )


def parallel(function: Callable[[int], T], rows: Iterable[int]) -> list[T]:
    """[function(row) for row in rows] in threads: decoders release the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, rows))


def pillow() -> Any:
    """The module PIL.Image. Raises ImportError without pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"image files are read with pillow: {install('data')}") from error
    return Image
