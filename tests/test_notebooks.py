"""The notebooks are committed with their outputs, small and without errors, and run from top to bottom."""

import base64
import re
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
PICTURE = 60_000
"""Largest number of bytes of a picture."""


def cells_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook):
    """The texts that each cell prints, with their numbers masked, and the kinds of its other outputs."""
    return [
        [re.sub(r"-?\d+(\.\d+)?", "0", " ".join(one.get("text", " ".join(one.get("data", {}))).split()))
         for one in cell.outputs if one.get("name") != "stderr"]
        for cell in cells_of(notebook)
    ]  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_has_outputs_and_no_errors(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = cells_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))  # from top to bottom
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and all(output.output_type != "error" for output in outputs)
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(len(base64.b64decode(picture)) < PICTURE for picture in pictures)
    assert "/tmp/" not in path.read_text() and str(ROOT) not in path.read_text()
    assert all(len(cell.source.splitlines()) <= 20 for cell in cells)


def test_each_notebook_is_listed_and_its_links_exist():
    readme = (ROOT / "notebooks/README.md").read_text()
    assert set(re.findall(r"\]\((\w+)\.ipynb\)", readme)) == set(NAMES) and len(NAMES) == 6
    assert "(notebooks/README.md)" in (ROOT / "README.md").read_text()
    for path in NOTEBOOKS:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_runs_and_prints_what_it_shows(path, monkeypatch):
    """The committed outputs are the ones of the committed cells, up to their numbers."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MPLBACKEND", "PYTHONWARNINGS", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # restored after the test
    module = runpy.run_path(str(ROOT / "notebooks/execute.py"))
    assert printed(module["executed"](path)) == printed(nbformat.read(path, as_version=4))
