"""Drawings in text: histograms of two times, curves, bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SHADES = " ·░▒▓█"
WIDE, HIGH, GAP = 24, 12, 3


def square(s: Tensor, t: Tensor) -> list[str]:
    """Draw how often (s, t) falls into each cell of the unit square: s to the right, t upwards, darker for more."""
    column = (s * WIDE).long().clamp(0, WIDE - 1)
    row = (t * HIGH).long().clamp(0, HIGH - 1)
    counts = torch.bincount(row * WIDE + column, minlength=WIDE * HIGH).reshape(HIGH, WIDE).double()
    # the square root keeps sparse cells visible beside a few full ones
    share = (counts / counts.max()).sqrt()
    level = torch.where(counts > 0, (share * (len(SHADES) - 1)).ceil().long(), 0)
    lines = ["".join(SHADES[k] for k in cells) for cells in level.flip(0).tolist()]
    return framed(lines, ("1", "t", "0"), ("0 data", "s", "noise 1"))


def chart(
    curves: Mapping[str, tuple[Tensor, Tensor]], across: tuple[float, float], up: tuple[float, float]
) -> list[str]:
    """Draw curves on logarithmic axes.

    Args:
        curves: x and y by mark; points outside the axes are left out.
        across: The limits of x.
        up: The limits of y.

    Returns:
        The lines.
    """
    cells = [[" "] * WIDE for _ in range(HIGH)]
    for mark, (x, y) in curves.items():
        for a, b in zip(x.tolist(), y.tolist(), strict=True):
            if across[0] <= a <= across[1] and up[0] <= b <= up[1]:
                cells[HIGH - 1 - place(b, up, HIGH)][place(a, across, WIDE)] = mark
    return framed(
        ["".join(row) for row in cells], (f"{up[1]:g}", "", f"{up[0]:g}"), (f"{across[0]:g}", "", f"{across[1]:g}")
    )


def place(value: float, limits: tuple[float, float], cells: int) -> int:
    """The index of a value's cell on a logarithmic axis with these limits and number of cells."""
    low, high = map(math.log, limits)
    return min(cells - 1, int((math.log(value) - low) / (high - low) * cells))


def framed(lines: Sequence[str], left: tuple[str, str, str], below: tuple[str, str, str]) -> list[str]:
    """Put lines into a frame with labels.

    Args:
        lines: Lines of the same length.
        left: The labels at the top, in the middle and at the bottom of the left side.
        below: The labels at the left, in the middle and at the right below.

    Returns:
        The lines with their frame.
    """
    wide, middle = max(map(len, left)), len(lines) // 2
    labels = {0: left[0], middle: left[1], len(lines) - 1: left[2]}
    rows = [f"{labels.get(i, ''):>{wide}} │{line}│" for i, line in enumerate(lines)]
    gap = len(lines[0]) - len(below[0]) - len(below[2])
    foot = f"{below[0]}{below[1]:^{gap}}{below[2]}"
    edge = "─" * len(lines[0])
    return [f"{'':{wide}} ┌{edge}┐", *rows, f"{'':{wide}} └{edge}┘", f"{'':{wide}}  {foot} "]


def beside(blocks: Sequence[Sequence[str]], titles: Sequence[str], wide: int) -> list[str]:
    """Put as many blocks of lines side by side as fit, each under its title.

    Args:
        blocks: The blocks.
        titles: Their titles.
        wide: The width of the terminal.

    Returns:
        The lines.
    """
    whole = [[title, *block] for title, block in zip(titles, blocks, strict=True)]
    fit = max(1, (wide + GAP) // (max(len(line) for block in whole for line in block) + GAP))
    lines: list[str] = []
    for k in range(0, len(whole), fit):
        lines += [(" " * GAP).join(row).rstrip() for row in zip(*map(even, whole[k : k + fit]), strict=True)]
    return lines


def even(lines: Sequence[str]) -> list[str]:
    """Pad lines to the same length."""
    wide = max(map(len, lines))
    return [line.ljust(wide) for line in lines]


def bar(shares: Mapping[str, float], wide: int = 60) -> list[str]:
    """Draw shares of a whole: one line for each, with a bar of at most `wide` cells."""
    name = max(map(len, shares))
    return [f"{key:<{name}}  {'█' * max(1, round(share * wide))} {share:.0%}" for key, share in shares.items()]
