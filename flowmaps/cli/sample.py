"""`flowmaps sample`."""

from __future__ import annotations

from ..experiments.sampling import sample
from .arguments import keywords
from .options import Sample
from .tables import say


def run_sample(options: Sample) -> None:
    """Draw samples and write them."""
    sample(**keywords(options), say=say)
