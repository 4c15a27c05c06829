"""`flowmaps sample`."""

from __future__ import annotations

from ..experiments.checks import folder_of
from ..experiments.sample_files import usual_file
from ..experiments.sampling import sample
from ..runs.folder import read_config
from .arguments import keywords
from .options import Sample
from .tables import say


def run_sample(options: Sample) -> None:
    """Draw samples and write them."""
    given = keywords(options)
    if options.out is None:
        given["out"] = usual_file(read_config(folder_of(options.run)))
    sample(**given, say=say)
