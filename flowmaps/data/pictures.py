"""Encoded images as data: a small set is decoded once into memory, a large one batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .check import check_labels
from .core import IN_MEMORY, Batch, Data
from .decoding import Header, ImageFormat, Pictures, attempt, header_of, parallel
from .depth import span_of
from .prompts import Prompts
from .sources import IndexedRows, TensorRows, from_bytes, hold_out


@dataclass(frozen=True, eq=False, kw_only=True)
class DecodedRows(TensorRows):
    """Images that were decoded into memory.

    Args:
        pictures: The images.
        rows: Numbers of the images of this table.
    """

    pictures: Pictures
    rows: Tensor


@dataclass(frozen=True, eq=False)
class FileRows:
    """A table of images that are decoded when they are taken.

    A broken image is entered in `skipped`, and the next readable one of the same batch replaces it, so that batches
    stay full and never use other rows.

    Args:
        pictures: The images.
        rows: Numbers of the images of this table.
        form: Their common format.
        skipped: Broken images, each with its reason.
    """

    pictures: Pictures
    rows: Tensor
    form: ImageFormat
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `sources.IndexedRows`. Raises ValueError if none can be read."""
        rows = self.rows[index].tolist()
        decoded = parallel(lambda row: attempt(self.pictures, row, self.form), rows)
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
    value_range: tuple[float, float] | None = None,
) -> Data:
    """Make a data set of encoded images.

    Args:
        pictures: The images.
        name: Name in messages and tables.
        class_names: Names of the classes.
        size: Side or (height, width) to which images are scaled and cropped. None: their common size.
        mode: "RGB" or "L". None: "RGB" unless all images are grey.
        value_range: Values of images of more than eight bits that become -1 and 1; None as in `depth.span_of`.

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
    headers = parallel(lambda row: attempt(pictures, row, header_of), range(len(pictures.names)))
    skipped = [found for found in headers if isinstance(found, str)]
    readable = {row: found for row, found in enumerate(headers) if not isinstance(found, str)}
    _any_left(len(readable), skipped, name)
    span = span_of(pictures.names, readable, name, value_range)
    form = _format(pictures.names, readable, name, wanted, mode, span)
    _warn_frames([pictures.names[row] for row, header in readable.items() if header.several], name)
    rows, kept = _rows(pictures, list(readable), form, skipped)
    _any_left(len(kept), skipped, name)
    if skipped:
        shown = "; ".join(skipped[:5]) + ("; ..." if len(skipped) > 5 else "")
        warnings.warn(
            f"{len(skipped)} of {len(headers)} images of {name} cannot be read and are left out: {shown}", stacklevel=3
        )
    source = hold_out(rows, None if pictures.held is None else pictures.held[kept])
    data = Data(
        name, form.channels_first, source, "images", count, names, levels=_levels(readable, span), skipped=skipped
    )
    if pictures.texts is None:
        return data
    return replace(data, prompts=Prompts.of_rows([pictures.texts[row] for row in kept.tolist()]))


def _rows(pictures: Pictures, readable: list[int], form: ImageFormat, skipped: list[str]) -> tuple[IndexedRows, Tensor]:
    """The table of images and their numbers. Small sets are decoded now, which finds more broken images."""
    if len(readable) * torch.Size(form.channels_first).numel() * form.itemsize > IN_MEMORY:
        rows = torch.tensor(readable)
        return FileRows(pictures, rows, form, skipped), rows
    decoded = parallel(lambda row: attempt(pictures, row, form), readable)
    skipped.extend(pixels for pixels in decoded if isinstance(pixels, str))
    whole = {row: pixels for row, pixels in zip(readable, decoded, strict=True) if isinstance(pixels, Tensor)}
    kept = torch.tensor(list(whole), dtype=torch.int64)
    x = torch.stack(list(whole.values())) if whole else torch.empty(0)
    label = None if pictures.label is None else pictures.label[kept]
    return DecodedRows(x, label, pictures=pictures, rows=kept), kept


def _format(
    names: Sequence[str],
    readable: dict[int, Header],
    where: str,
    size: tuple[int, int] | None,
    mode: str | None,
    span: tuple[float, float] | None,
) -> ImageFormat:
    """The requested size and mode, or those that all images share."""
    first = next(iter(readable))
    height_width = readable[first].size
    for row, header in readable.items():
        other = header.size
        if size is None and other != height_width:
            one = f"{names[first]} is {height_width[0]} x {height_width[1]}"
            another = f"{names[row]} is {other[0]} x {other[1]}"
            raise ValueError(
                f"images of {where} have different sizes (height x width): {one}, {another}; "
                "pass size=SIDE or size=(height, width) to scale and crop them"
            )
    grey = all(header.grey for header in readable.values())
    return ImageFormat(size or height_width, mode or ("L" if grey else "RGB"), span)


def _levels(readable: dict[int, Header], span: tuple[float, float] | None) -> int | None:
    """Number of levels of a colour; None for floating-point pixels."""
    if span is None:
        return 256
    return None if any(header.real for header in readable.values()) else round(span[1] - span[0]) + 1


def _warn_frames(names: Sequence[str], where: str) -> None:
    """Warn about files of several images: only the first one is read."""
    if names:
        warnings.warn(
            f"{len(names)} images of {where} have several frames or pages, and only the first of each is read "
            f"({', '.join(names[:3])}): save each frame as a file of its own to use all",
            stacklevel=4,
        )


def _any_left(count: int, skipped: Sequence[str], where: str) -> None:
    """Raise ValueError if no image is left."""
    if count == 0:
        raise ValueError(
            f"no image of {where} can be read, the first of {len(skipped)}: {skipped[0]}"
            if skipped
            else f"{where} holds no images"
        )
