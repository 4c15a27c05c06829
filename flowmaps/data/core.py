"""The data set: rows x0 with their conditions, drawn as a deterministic function of seed and number.

A `Data` describes its rows and its `Source` makes them. Nothing depends on the global random state, so a run that
resumes at step k asks for batch k and gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ..arguments import at_least, brief_repr, check_seed
from ..manifolds import Manifold
from ..sequences import Signal
from ..units import Units
from .columns import Columns
from .coordinates import Coordinates
from .prompts import Prompts
from .vocabularies import Vocabulary

Kind = Literal["points", "images", "vectors", "tokens"]

ALL = slice(None)

IN_MEMORY = 512 * 2**20
"""Bytes up to which a finite data set is kept decoded in memory; a larger one is read from disk batch by batch."""


class Batch(NamedTuple):
    """Rows of a data set with their conditions.

    Attributes:
        x0: Rows (B, *shape).
        label: Class labels (B,), int64; None without classes.
        noise: Noise (B, *shape) to which each row is coupled; None for independent noise.
        given: Other conditions of the network, tensors (B, ...) by the name of its argument.
    """

    x0: Tensor
    label: Tensor | None = None
    noise: Tensor | None = None
    given: Mapping[str, Tensor] | None = None

    def __repr__(self) -> str:
        return brief_repr(self, self._fields)

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every tensor of the batch."""
        x0, label, noise = (None if part is None else change(part) for part in self[:3])
        assert x0 is not None
        return Batch(x0, label, noise, self.given and {name: change(part) for name, part in self.given.items()})

    def rows(self, which: slice | Tensor) -> Batch:
        """Select rows by a slice or by their numbers."""
        return self.each(lambda part: part[which])


class Source(Protocol):
    """The origin of the rows of a data set; `Data` describes the three ways to read it."""

    @property
    def size(self) -> int | None:
        """Number of training rows; None for an infinite source or an unknown number."""

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        """Endless training batches from batch `start` on; of each only the part that `rows` selects."""

    def draw(self, n: int, seed: int) -> Batch:
        """Random training rows."""

    def held_out(self, n: int, seed: int) -> Batch:
        """Random rows that are not used for training."""


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: a description of its rows, and three ways to read them.

    Args:
        name: Name in messages and tables.
        shape: Shape of one x0.
        source: Origin of the rows.
        kind: "points" (two coordinates), "images" ((C, H, W) with values in [-1, 1]), "tokens" (one-hot rows (L, K)) or
            "vectors" (anything else).
        classes: Number of classes. None: rows have no labels.
        class_names: Names of the classes.
        exact: The distribution, where it is one of `flowmaps.exact`.
        levels: Number of grey levels of the original images (digits 17, 8-bit images 256).
        log_prob: Log density, x (B, *shape) -> (B,) in nats, where it is known.
        skipped: Files that could not be read, each with its reason.
        known_std: Standard deviation over all entries, where it is known in closed form.
        given: Names of the conditions in `Batch.given`.
        recipe: Keyword arguments with which `load` makes this data set again. None: it was made from an object.
        coupling: Description of the coupling between rows and noise. None: the noise is independent.
        prompts: Texts of the rows.
        units: Units of the rows before they were standardised. None: rows are in the units of the data.
        vocabulary: Texts of the tokens. None: rows are no tokens, or tokens are numbers without texts.
        columns: Names of the numbers and of the categories of a row. None: no entries of rows are categories.
        manifold: The manifold of the rows, which are points in its ambient coordinates. None: rows of numbers.
        coordinates: The columns of a table of these points. None: rows have no other coordinates.
        signal: The sound behind rows of frames (T, C). None: rows are no frames of a signal.
        notes: Facts that were found on reading, such as the number of copies.
    """

    name: str
    shape: tuple[int, ...]
    source: Source
    kind: Kind
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    exact: Any = None
    levels: int | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None
    skipped: Sequence[str] = ()
    known_std: float | None = None
    given: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None
    coupling: dict[str, Any] | None = None
    prompts: Prompts | None = None
    units: Units | None = None
    vocabulary: Vocabulary | None = None
    columns: Columns | None = None
    manifold: Manifold | None = None
    coordinates: Coordinates | None = None
    signal: Signal | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return brief_repr(self, ("name", "kind", "shape", "size", "classes", "given", "manifold"))

    @property
    def size(self) -> int | None:
        """Number of training rows; None for an infinite source or an unknown number."""
        return self.source.size

    @cached_property
    def std(self) -> float:
        """Standard deviation over all entries: `known_std`, or else measured on 4096 training rows.

        Raises:
            ValueError: It is zero, so that nothing can be scaled by it.
        """
        if self.known_std is not None:
            return self.known_std
        found = float(self.draw(4096, seed=0).x0.double().std())
        if not found > 0:
            raise ValueError(
                f"all values of {self.name} are equal (their standard deviation is {found:g} in 4096 rows), so a "
                "network cannot be scaled to them: give data that vary"
            )
        return found

    def batches(self, batch_size: int, seed: int = 0, start: int = 0, rows: slice = ALL) -> Iterator[Batch]:
        """Read training batches without end. Batch i is a function of (seed, i).

        An infinite source gives fresh rows. A finite one is shuffled anew for each epoch, and the incomplete batch at
        the end of an epoch is dropped; a batch larger than the set wraps around it and is full.

        Args:
            batch_size: Number of rows of the whole batch.
            seed: Seed of the shuffling or sampling.
            start: Number of the first batch, to resume.
            rows: Part of each batch that is wanted, for processes that share the batches: `rows=slice(p, None, P)` is
                the share of process p of P. A finite source reads and decodes only these rows.

        Returns:
            An iterator of batches.

        Raises:
            ValueError: `batch_size` is below 1 or `start` is negative.
        """
        at_least(1, batch_size=batch_size)
        at_least(0, start=start)
        check_seed(seed)
        return self.source.batches(batch_size, seed, start, rows)

    def draw(self, n: int, seed: int = 0) -> Batch:
        """Draw training rows.

        Args:
            n: Number of rows.
            seed: Seed of the choice.

        Returns:
            Fresh rows of an infinite source; otherwise a random choice, with repetitions only if n exceeds the set.

        Raises:
            ValueError: n is below 1.
        """
        at_least(1, n=n)
        check_seed(seed)
        return self.source.draw(n, seed)

    def held_out(self, n: int, seed: int = 0) -> Batch:
        """Draw held-out rows, which `batches` and `draw` never give.

        Args:
            n: Number of rows.
            seed: Seed of the choice.

        Returns:
            Fresh rows of an infinite source; otherwise n of the held-out rows, or all if there are fewer.

        Raises:
            ValueError: n is below 1, or no rows are held out.
        """
        at_least(1, n=n)
        check_seed(seed)
        return self.source.held_out(n, seed)

    def in_units(self, x: Tensor) -> Tensor:
        """Convert rows to the units that the data had before they were standardised; else return them unchanged."""
        return x if self.units is None else self.units.restored(x)

    def to_pixels(self, x: Tensor) -> Tensor:
        """Convert images from [-1, 1] to pixels: (x + 1) / 2 clamped to [0, 1].

        Raises:
            TypeError: The rows are not images.
        """
        if self.kind != "images":
            raise TypeError(f"only images have pixels, and {self.name} holds {self.kind} of shape {self.shape}")
        return ((x + 1) / 2).clamp(0, 1)


TRAIN, DRAW, HELD_OUT, NOISE = range(4)


def generator(seed: int, index: int, role: int) -> torch.Generator:
    """Make a random generator that is a function of (seed, index, role).

    torch reads 32 bits of a seed: 30 bits mix seed and index, and the lowest two are the role.

    Args:
        seed: Seed of the data set.
        index: Number of the batch or epoch.
        role: One of TRAIN, DRAW, HELD_OUT and NOISE; generators of different roles never coincide.

    Returns:
        A generator on the CPU.
    """
    return torch.Generator().manual_seed((_mix(_mix(seed) + index) & 0x3FFFFFFF) << 2 | role)


def _mix(value: int) -> int:
    """The splitmix64 finaliser (Steele, Lea and Flood 2014): neighbouring integers become unrelated ones."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 31


def kind_of(shape: Sequence[int]) -> Kind:
    """Kind of rows by shape: (2,) is "points", (1, H, W) and (3, H, W) are "images", anything else is "vectors"."""
    if tuple(shape) == (2,):
        return "points"
    return "images" if len(shape) == 3 and shape[0] in (1, 3) else "vectors"
