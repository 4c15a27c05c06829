"""Pages with instruments for runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data
from ..data.labels import uses_labels
from ..files import write_text
from ..reports.explore_page.runs import Explored, runs_page
from ..runs.folder import read_config
from ..runs.loading import load_with_step
from .checks import folder_of
from .run_data import given_data, run_data

PAGE = "explore.html"


def explore(
    *runs: str | Path, out: str | Path | None = None, data: Any = None, network: nn.Module | None = None
) -> Path:
    """Write explore.html: a page with instruments for one run, or for two beside each other.

    For points in the plane the page has the network and evaluates it; for other data it has states that are computed
    now. `fm.reports.explore` writes the page of the post.

    Args:
        *runs: One run folder, or two.
        out: The file. None: explore.html in the folder of the first run.
        data: Data in place of the data of the runs; needed if these were made from an object.
        network: The network, if the runs cannot build it.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: A folder has no run or no checkpoint.
        ValueError: There are no runs or more than two, the data cannot be loaded again, the states are not drawn, or
            the runs have data of different kinds.
        ImportError: jinja2 or matplotlib is not installed.
    """
    if len(runs) not in (1, 2):
        raise ValueError(f"a page shows one run, or two beside each other, got {len(runs)}")
    folders = [folder_of(run) for run in runs]
    found = [_explored(folder, data, network) for folder in folders]
    if len({(run.data.kind, tuple(run.data.shape)) for run in found}) > 1:
        raise ValueError(f"{folders[0]} and {folders[1]} have rows of different kinds, so they are not shown together")
    path = folders[0] / PAGE if out is None else Path(out)
    write_text(path, runs_page(found))
    return path


def _explored(folder: Path, data: Any, network: nn.Module | None) -> Explored:
    """Load a run with its data."""
    loaded = load_with_step(folder, network)
    flow = loaded.flow.to("cpu").float()
    known: Data = run_data(folder) if data is None else given_data(folder, data)
    labels = uses_labels(flow.network, known, read_config(folder)["training"]["labels"])
    return Explored(folder.resolve().name, flow, known, labels, loaded.step)
