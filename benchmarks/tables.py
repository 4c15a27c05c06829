"""Markdown tables, and a line with the date and machine of a measurement."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import torch

from flowmaps.figures.words import markdown_table as markdown

__all__ = ["machine", "markdown"]


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
