"""`flowmaps export`."""

from __future__ import annotations

from ..experiments.exporting import export
from .arguments import keywords
from .options_export import Export
from .tables import say


def run_export(options: Export) -> None:
    """Write the folder and the other requested files."""
    export(**keywords(options), say=say)
