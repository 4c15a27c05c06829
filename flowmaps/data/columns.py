"""Rows of numbers and categories: each column of texts is a one-hot block behind the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..arguments import expect_tensor, shown
from .array_files import Array

MOST_BYTES = 2**31
"""Largest size of the one-hot rows of a table."""
SHOWN = 20
"""Number of categories that a message shows."""
LEAST = 8
"""Least number of values of a row that is drawn as a series."""


def are_series(shape: Sequence[int], named: bool) -> bool:
    """Whether rows of vectors are series: values of one kind, not the columns of a table.

    Args:
        shape: Shape of a row, (L,) or (C, L).
        named: Whether the values have names, as the columns of a table do.

    Returns:
        Whether a row is drawn as a line.
    """
    return len(shape) in (1, 2) and shape[-1] >= LEAST and not named


@dataclass(frozen=True)
class Columns:
    """The columns of rows (D + K_1 + K_2 + ...,): D numbers, then a one-hot block for each column of categories.

    The config.json of a run holds the columns of its data, so that samples become a table without the data.

    Args:
        numbers: Names of the D columns of numbers.
        categories: (name, categories) of each other column, in the order of the blocks and of their entries.

    Raises:
        ValueError: Two columns have one name, there is no column of categories, or one of them has fewer than two
            categories or one twice.
    """

    numbers: tuple[str, ...]
    categories: tuple[tuple[str, tuple[str, ...]], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", tuple(self.numbers))
        object.__setattr__(self, "categories", tuple((name, tuple(values)) for name, values in self.categories))
        names = [*self.numbers, *(name for name, _ in self.categories)]
        if len(set(names)) < len(names) or not self.categories:
            raise ValueError(f"columns have different names, and one or more hold categories, got {shown(names)}")
        for name, values in self.categories:
            if len(set(values)) < max(2, len(values)):
                raise ValueError(f'column "{name}" needs two or more different categories, got {shown(values)}')

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of categories of each column that has some."""
        return tuple(len(values) for _, values in self.categories)

    @property
    def width(self) -> int:
        """Number of entries of a row."""
        return len(self.numbers) + sum(self.sizes)

    def encode(self, numbers: Array, texts: Mapping[str, Sequence[str]], where: str) -> Array:
        """Make rows.

        Args:
            numbers: The columns of numbers, (N, D).
            texts: The N texts of each other column.
            where: Name of the table, for messages.

        Returns:
            Rows (N, width), float64.

        Raises:
            ValueError: A text is none of the categories, or the rows need too much memory.
        """
        if 8 * len(numbers) * self.width > MOST_BYTES:
            raise ValueError(
                f"the one-hot rows of {where} need {8 * len(numbers) * self.width / 2**30:.1f} GiB: leave out columns "
                "of many categories with columns=[NAMES], or give fewer rows"
            )
        blocks = [numbers]
        for name, values in self.categories:
            number = {value: at for at, value in enumerate(values)}
            if unknown := sorted({text for text in texts[name] if text not in number}):
                more = f" and {len(unknown) - 1} other texts" if len(unknown) > 1 else ""
                raise ValueError(
                    f'column "{name}" of {where} holds {unknown[0]!r}{more}, none of its {len(values)} categories '
                    f"{', '.join(values[:SHOWN])}{', ...' if len(values) > SHOWN else ''}"
                )
            rows = np.zeros((len(numbers), len(values)))
            rows[np.arange(len(numbers)), [number[text] for text in texts[name]]] = 1
            blocks.append(rows)
        return np.concatenate(blocks, 1)

    def decode(self, x: Tensor) -> tuple[Tensor, dict[str, list[str]]]:
        """Take rows apart.

        Args:
            x: Rows (B, width). Each block counts as its largest entry.

        Returns:
            The numbers (B, D), and the category of each row by the name of the column.

        Raises:
            ValueError: The rows have another shape, or an entry of a block is NaN.
        """
        expect_tensor("x", x)
        if x.ndim != 2 or x.shape[1] != self.width:
            raise ValueError(f"rows of these columns have shape (B, {self.width}), got {tuple(x.shape)}")
        numbers, *blocks = x.split((len(self.numbers), *self.sizes), 1)
        if any(bool(block.isnan().any()) for block in blocks):
            raise ValueError("rows with NaN in the block of a column have no category")
        chosen = zip(self.categories, blocks, strict=True)
        return numbers, {name: [values[at] for at in block.argmax(1).tolist()] for (name, values), block in chosen}
