"""`flowmaps explore`: pages with instruments."""

from __future__ import annotations

from .. import experiments
from ..reports import explore
from .evaluate import show
from .options import Explore


def run_explore(options: Explore) -> None:
    """Write the page, print its path, and open it if that is asked for."""
    if options.post == bool(options.runs):
        raise ValueError("name a run folder, or two, or take --post for the page of the post")
    if options.post:
        page = explore(options.out or "explore.html")
    else:
        page = experiments.explore(*options.runs, out=options.out)
    print(page)
    if options.open:
        show(page)
