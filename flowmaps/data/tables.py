"""Tables of named tensors, spread over memory-mapped files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..arguments import install


@dataclass(frozen=True, eq=False)
class TensorTable:
    """A table of named tensors, rows first, in consecutive parts.

    Args:
        parts: Tensors by name, with the same names, dtypes and row shapes in every part.
    """

    parts: Sequence[Mapping[str, Tensor]]

    @classmethod
    def mapped(cls, files: Sequence[Path]) -> TensorTable:
        """Open safetensors files, memory-mapped.

        Args:
            files: The parts of the table, in order.

        Returns:
            A table that reads rows from the files when they are taken.

        Raises:
            ImportError: safetensors is not installed.
            ValueError: A file cannot be read.
        """
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise ImportError(f"safetensors files need safetensors: {install('train')}") from error
        try:
            table = cls([load_file(file) for file in files])
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{', '.join(map(str, files[:3]))} cannot be read as tensors: {error}") from error
        for file, part in zip(files, table.parts, strict=True):
            rows = {value.shape[:1] for value in part.values()}
            if len(rows) != 1 or () in rows or _form(part) != _form(table.parts[0]):
                raise ValueError(f"{file} cannot be read as a part of a table: its tensors have other rows or names")
        return table

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self.parts) else 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors; () for a table without parts."""
        return tuple(self.parts[0]) if len(self.parts) else ()

    @cached_property
    def _ends(self) -> Tensor:
        """The row number after each part."""
        return torch.tensor([len(next(iter(part.values()))) for part in self.parts]).cumsum(0)

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Read rows.

        Args:
            index: Row numbers (B,), an int64 tensor on the CPU.

        Returns:
            Tensors (B, ...) by name. Floating-point tensors are converted to the default dtype.
        """
        which = torch.searchsorted(self._ends, index.contiguous(), right=True)
        return {name: self._take(name, index, which) for name in self.names}

    def column(self, name: str) -> Tensor:
        """Read all rows of one tensor into memory."""
        return torch.cat([part[name] for part in self.parts])

    def _take(self, name: str, index: Tensor, which: Tensor) -> Tensor:
        """Rows of one tensor; `which` (B,) is the part of each row."""
        first = self.parts[0][name]
        dtype = torch.get_default_dtype() if first.is_floating_point() else first.dtype
        taken = torch.empty(len(index), *first.shape[1:], dtype=dtype)
        for number in which.unique().tolist():
            part, here = self.parts[number][name], which == number
            start = int(self._ends[number]) - len(part)
            taken[here] = part[index[here] - start].to(dtype)
        return taken


def _form(part: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """Dtype and shape of a row of each tensor of a part."""
    return {name: (value.dtype, value.shape[1:]) for name, value in part.items()}
