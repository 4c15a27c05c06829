"""Images of more than eight bits: their range of values, and images that a reader cuts to eight bits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from .decoding import Header

BITS = (8, 10, 12, 14, 16)
"""Numbers of bits of a pixel, in files that have 16 or 32 bits for it."""
FEW = 64
"""Largest byte, of 255, below which a colour image that a reader cut to eight bits did not use its 16 bits."""

Span = tuple[float, float]


def span_of(names: Sequence[str], headers: Mapping[int, Header], where: str, wanted: Span | None) -> Span | None:
    """The values of deep pixels that become -1 and 1.

    Args:
        names: Name of each image in messages.
        headers: Headers by the number of the image.
        where: Name of the data in messages.
        wanted: The requested range. None: 0 to the least number of bits that holds the values of all deep images.

    Returns:
        The range; None if all images have bytes.

    Raises:
        ValueError: The range is unknown or does not fit the images, or the reader keeps too few levels.
    """
    _refuse_lost_bits(names, headers, where)
    deep = {row: header.reach for row, header in headers.items() if header.reach is not None}
    if not deep:
        if wanted is not None:
            raise ValueError(f"value_range is for images of more than 8 bits, and the images of {where} have 8")
        return None
    low, high = min(low for low, _ in deep.values()), max(high for _, high in deep.values())
    first = names[next(iter(deep))]
    if wanted is not None:
        if not (len(wanted) == 2 and wanted[0] < wanted[1]) or low < wanted[0] or high > wanted[1]:
            raise ValueError(
                f"value_range must be (low, high) that holds the values of {where}, {low:g} to {high:g}, got {wanted}"
            )
        return wanted[0], wanted[1]
    if low < 0 or high > 65535 or any(headers[row].real for row in deep):
        raise ValueError(
            f"pixels of {where} have values from {low:g} to {high:g} in a range that is not known (the first: {first}):"
            " pass value_range=(low, high), the values that become -1 and 1"
        )
    bits = next(bits for bits in BITS if high < 2**bits)
    if bits < 16:
        warnings.warn(
            f"{len(deep)} images of {where} have pixels of 16 bits or more, whose largest value is {high:g} (the first "
            f"image: {first}): they are read as {bits} bits, with 0 as -1 and {2**bits - 1} as 1; pass "
            "value_range=(low, high) for another range",
            stacklevel=5,
        )
    return 0, 2**bits - 1


def _refuse_lost_bits(names: Sequence[str], headers: Mapping[int, Header], where: str) -> None:
    """Raise ValueError if the eight bits that are kept of 16-bit colours have few levels."""
    kept = {row: header.upper for row, header in headers.items() if header.upper is not None}
    if kept and max(kept.values()) < FEW:
        raise ValueError(
            f"images of {where} have colours of 16 bits, only the upper 8 are read, and these reach "
            f"{max(kept.values())} of 255 at most (the first image: {names[next(iter(kept))]}), so most of their "
            "levels would be lost: save them with 8 bits, or as an array of 16-bit numbers (.npy) with value_range="
        )
