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

DEEP = frozenset(("I", "I;16", "I;16B", "I;16L", "I;16N", "F"))
"""Modes of images in pillow with more than eight bits. They are grey."""
GREY = frozenset(("1", "L", "LA", "La", *DEEP))
"""Modes of grey images in pillow."""
EXIF = frozenset(("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"))
"""Entries of pillow's `info` that say how a PNG is turned."""


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
class Header:
    """An image before it is decoded. Images of more than eight bits are decoded for the range of their values.

    Args:
        size: (height, width) of the upright image.
        grey: Whether it is grey.
        real: Whether its pixels are floating-point numbers.
        reach: The smallest and the largest value of an image of more than eight bits; None for bytes.
        upper: The largest byte of a colour image of 16 bits (pillow reads the upper eight); None for others.
        several: Whether the file has several frames or pages.
    """

    size: tuple[int, int]
    grey: bool
    real: bool = False
    reach: tuple[float, float] | None = None
    upper: int | None = None
    several: bool = False


@dataclass(frozen=True)
class ImageFormat:
    """The common format of the images.

    Args:
        size: (height, width) to which images are scaled and cropped.
        mode: "RGB" or "L".
        span: Values of deep pixels that become -1 and 1. None: all images have bytes.
    """

    size: tuple[int, int]
    mode: str
    span: tuple[float, float] | None = None

    @property
    def channels_first(self) -> tuple[int, int, int]:
        """Shape of an image as a tensor (C, H, W)."""
        return (3 if self.mode == "RGB" else 1, *self.size)

    @property
    def itemsize(self) -> int:
        """Bytes of a pixel of one colour."""
        return 1 if self.span is None else torch.get_default_dtype().itemsize

    def __call__(self, image: Image) -> Tensor:
        """Turn an image upright, scale and centre-crop it to `size`, and convert it.

        Args:
            image: The image.

        Returns:
            The image (C, H, W): uint8, or in [-1, 1] if the set has deep images.
        """
        import numpy as np
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(image)
        deep = upright.mode in DEEP
        upright = _on_white(upright, self.span) if deep and self.span is not None else in_mode(upright, self.mode)
        height, width = self.size
        upright = upright if upright.size == (width, height) else ImageOps.fit(upright, (width, height))
        x = torch.from_numpy(np.array(upright)).reshape(height, width, -1).movedim(-1, 0)
        if self.span is None:
            return x
        x = x.to(torch.get_default_dtype())
        return (x if deep else x / 127.5 - 1).clamp(-1, 1).expand(self.channels_first)


def _on_white(image: Image, span: tuple[float, float]) -> Image:
    """A deep image with `span` as -1 and 1, on white where it is transparent."""
    import numpy as np
    from PIL import Image as images

    values = np.asarray(image, np.float64)
    x = (values - span[0]) * (2 / (span[1] - span[0])) - 1
    clear = image.info.get("transparency")
    return images.fromarray((np.where(values == clear, 1, x) if isinstance(clear, int) else x).astype(np.float32))


def in_mode(image: Image, mode: str) -> Image:
    """Convert an image of bytes to "RGB" or "L". Transparent images get a white background."""
    from PIL import Image as images

    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = images.alpha_composite(images.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def header_of(image: Image) -> Header:
    """The header of an image. Raises ValueError for pixels that are not finite."""
    import numpy as np

    # pillow knows the upright size of a TIFF in some versions, and the size in the file in all
    width, height = (tags[256], tags[257]) if (tags := getattr(image, "tag_v2", None)) else image.size
    # pillow decodes a whole PNG to look for EXIF data behind its pixels
    exif = image.getexif() if image.format != "PNG" or EXIF & set(image.info) else {}
    size = (width, height) if exif.get(0x0112, 1) >= 5 else (height, width)
    several = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    if image.mode in DEEP:
        pixels = np.asarray(image)
        if not np.isfinite(pixels).all():
            raise ValueError("its pixels are not all finite")
        return Header(size, True, image.mode == "F", (float(pixels.min()), float(pixels.max())), several=several)
    cut = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    upper = max(int(most) for _, most in image.convert("RGB").getextrema()) if cut else None  # type: ignore[misc]
    return Header(size, image.mode in GREY, upper=upper, several=several)


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
