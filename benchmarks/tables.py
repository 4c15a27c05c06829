"""Markdown tables and the line that says where they were measured."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from pathlib import Path

import torch


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with padded columns, the first to the left and the others to the right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    rule = ["-" * widths[0], *["-" * (w - 1) + ":" for w in widths[1:]]]
    lines = [
        " | ".join(_padded(cell, i, widths[i]) for i, cell in enumerate(row)) for row in [cells[0], rule, *cells[1:]]
    ]
    return "\n".join(f"| {line} |" for line in lines)


def _padded(cell: str, column: int, width: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def machine() -> str:
    """Date, processor, threads and torch version of a measurement."""
    parts = [str(datetime.date.today()), _processor(), f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}"])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
