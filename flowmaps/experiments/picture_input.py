"""Pictures that a person gives to a run: read as the images of its data are, checked, never scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import expect_finite, expect_floating, expect_path
from ..data import Data
from ..data.class_names import is_number
from ..data.core import NOISE, generator
from ..data.decoding import ImageFormat, Pictures, attempt, header_of, pillow
from ..data.sources import from_bytes
from .trained_run import Say, silent

HELD_OUT = "held-out:"
"""Start of the text of a held-out image."""
MOST_HELD_OUT = 1000
"""Number of held-out images that can be named, which bounds the images that are read for one."""
DARK, BRIGHT = 32, 223
"""Bytes up to which a pixel of a mask is black, and from which it is white."""

Image = str | PathLike[str] | Tensor
"""A file, held-out:K, or a tensor (C, H, W) with values in [-1, 1]."""


@dataclass(frozen=True)
class Images:
    """The images of a run: its held-out ones, and pictures like them.

    Args:
        about: The entry "data" of config.json.
        data: Function that loads the data.
        seed: Seed of the noise of measurements.
        say: Receives a line about the use of a picture.
    """

    about: Mapping[str, Any]
    data: Callable[[], Data]
    seed: int = 0
    say: Say = silent

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image of the run, (C, H, W)."""
        return tuple(self.about["shape"])

    def noisy(self, y: Tensor, std: float) -> Tensor:
        """A measurement with noise."""
        return y + std * torch.randn(y.shape, generator=generator(self.seed, 0, NOISE))

    def read(self, image: Image, small: tuple[int, int] | None = None) -> tuple[Tensor, bool]:
        """Read an image.

        Args:
            image: A file, held-out:K or a tensor.
            small: A size (height, width) that it may have beside the one of the data.

        Returns:
            The image (C, H, W), and whether it is a person's own picture, and not of the data.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no picture, or of another size, or has other channels.
        """
        if isinstance(image, Tensor):
            expect_floating("a picture", image, "(C, H, W), with values in [-1, 1]", least=3)
            expect_finite("a picture", image)
            x = image.float()
        elif str(image).startswith(HELD_OUT):
            return self.held_out(str(image)), False
        else:
            x = _picture(image, self.shape[0], (self.about.get("recipe") or {}).get("value_range"))
        sizes = [self.shape[1:], *([] if small is None else [small])]
        if tuple(x.shape[1:]) not in sizes or len(x) != self.shape[0]:
            wanted = " or ".join(f"{height} x {width}" for height, width in dict.fromkeys(sizes))
            raise ValueError(
                f"a picture for this run has {self.shape[0]} channels and {wanted} pixels (height x width), got "
                f"{len(x)} and {size_of(x.shape)}"
            )
        return x, True

    def held_out(self, text: str) -> Tensor:
        """The image of a text held-out:K."""
        word = text.removeprefix(HELD_OUT)
        if not is_number(word) or len(word) > 6 or int(word) >= MOST_HELD_OUT:
            raise ValueError(f"a held-out image is {HELD_OUT}0 to {HELD_OUT}{MOST_HELD_OUT - 1}, got {text!r}")
        rows = self.data().held_out(int(word) + 1).x0
        if len(rows) <= int(word):
            raise ValueError(
                f"the data hold {len(rows)} images out, {HELD_OUT}0 to {HELD_OUT}{len(rows) - 1}, not {text}"
            )
        return rows[int(word)].float()

    def hole(self, mask: Image) -> Tensor:
        """The hole of a mask, (H, W), True where an image is filled in."""
        if isinstance(mask, Tensor):
            if not bool(((mask == 0) | (mask == 1)).all()):
                raise ValueError("a mask is a tensor of 0 and 1, or False and True, which is 1 in the hole")
            hole = mask == 1
        else:
            grey = _read(mask, lambda picture: ImageFormat(header_of(picture).size, "L")(picture))[0]
            between = int(((grey > DARK) & (grey < BRIGHT)).sum())
            if between:
                raise ValueError(
                    f"the pixels of a mask are white in the hole and black elsewhere, and {between} of {grey.numel()} "
                    f"in {mask} are grey"
                )
            hole = grey >= BRIGHT
        if tuple(hole.shape) != self.shape[1:]:
            got = " x ".join(map(str, hole.shape))
            raise ValueError(f"a mask has the size of the data, {size_of(self.shape)} (height x width), got {got}")
        if bool(hole.all()) or not bool(hole.any()):
            colour = "white" if bool(hole.all()) else "black"
            raise ValueError(f"a mask is white in the hole and black elsewhere, and all of it is {colour}")
        return hole


def _picture(path: Any, channels: int, span: Any) -> Tensor:
    """Read a picture as images of a data set are read, without a change of its size: (C, H, W) in [-1, 1]."""

    def convert(picture: Any) -> Tensor:
        header = header_of(picture)
        if header.several:
            raise ValueError("it has several frames or pages: save one of them")
        if header.reach is not None and span is None:
            raise ValueError("it has more than 8 bits, whose range is not known for this run: save it with 8 bits")
        if channels == 1 and not header.grey:
            red, green, blue = ImageFormat(header.size, "RGB")(picture)
            if not (torch.equal(red, green) and torch.equal(red, blue)):
                raise ValueError("it has colours, and the data of the run are grey: save it as a grey picture")
        deep = None if header.reach is None else (float(span[0]), float(span[1]))
        return from_bytes(ImageFormat(header.size, "RGB" if channels == 3 else "L", deep)(picture))

    return _read(path, convert).float()


def _read(path: Any, convert: Callable[[Any], Tensor]) -> Tensor:
    """Read a picture of a file."""
    expect_path("a picture", path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no picture {path}: give a file, or {HELD_OUT}0 for an image of the data")
    found = attempt(Pictures([str(path)], lambda row: pillow().open(path)), 0, convert)
    if isinstance(found, str):
        raise ValueError(f"a picture cannot be used, {found}")
    return found


def size_of(shape: Sequence[int]) -> str:
    """The height and width of images of a shape (C, H, W), in words."""
    return f"{shape[1]} x {shape[2]}"
