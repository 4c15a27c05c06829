"""Execute the notebooks in place, from top to bottom in a fresh kernel, and keep their outputs.

    make notebooks
    make notebooks ARGS="steer likelihood"

A notebook is its own source: edit its cells, in Jupyter or in the file, then run this. Only sources and outputs are
kept, without times and without the versions of programs, so that a new execution changes only the lines that differ.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONWARNINGS": "ignore:IProgress not found",
}
"""One thread that waits without spinning, pictures in the notebook, and no advice about widgets."""
TIMEOUT = 600
"""Seconds after which a cell is stopped, on a machine that other programs share."""


def executed(path: Path) -> nbformat.NotebookNode:
    """Execute a notebook in an empty folder.

    Args:
        path: The notebook.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raises an exception.
    """
    notebook = nbformat.read(path, as_version=4)
    search = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    os.environ.update(SETTINGS, PYTHONPATH=search)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
        )
        client.execute()
    return plain(notebook)


def plain(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out all that differs between two executions of the same cells: names of cells, versions, addresses."""
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        outputs = cell.get("outputs", [])
        for output in outputs:
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
            if "image/png" in output.get("data", {}):
                output.data.pop("text/plain", None)
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of file names; all notebooks by default")
    names = parser.parse_args().names
    for path in sorted(HERE.glob("*.ipynb")):
        if not names or any(name in path.stem for name in names):
            print(path.name, flush=True)
            nbformat.write(executed(path), path)


if __name__ == "__main__":
    main()
