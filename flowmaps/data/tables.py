"""Named tensors, rows first, in one file after another, of which only the rows that are asked for are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Table:
    """Parts that follow one another: in each the same names, dtypes and shapes, with any number of rows."""

    parts: Sequence[Mapping[str, Tensor]]

    @classmethod
    def mapped(cls, files: Sequence[Path]) -> Table:
        """The tensors of safetensors files, mapped: the system reads their pages as they are used. Raises ImportError
        without safetensors, ValueError for a file that cannot be read.
        """
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise ImportError("safetensors files need safetensors: pip install flowmaps[train]") from error
        try:
            return cls([load_file(file) for file in files])
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{', '.join(map(str, files[:3]))} cannot be read as tensors: {error}") from error

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self.parts) else 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parts[0]) if len(self.parts) else ()

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor([len(next(iter(part.values()))) for part in self.parts]).cumsum(0)

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """The rows with the numbers `index` (B,), an int64 tensor on the CPU; numbers with a fraction in the default
        dtype, however they are stored.
        """
        which = torch.searchsorted(self._ends, index.contiguous(), right=True)
        return {name: self._take(name, index, which) for name in self.names}

    def column(self, name: str) -> Tensor:
        """All rows of a tensor, in memory."""
        return torch.cat([part[name] for part in self.parts])

    def _take(self, name: str, index: Tensor, which: Tensor) -> Tensor:
        first = self.parts[0][name]
        dtype = torch.get_default_dtype() if first.is_floating_point() else first.dtype
        taken = torch.empty(len(index), *first.shape[1:], dtype=dtype)
        for number in which.unique().tolist():
            part, here = self.parts[number][name], which == number
            start = int(self._ends[number]) - len(part)
            taken[here] = part[index[here] - start].to(dtype)
        return taken
