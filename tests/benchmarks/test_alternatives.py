"""The benchmark of paths and distributions: its measures of modes, its cells, and its tables."""

import json

import pytest
import torch

from benchmarks import alternatives
from benchmarks.alternatives.cells import SETS, Alternatives, eight_modes, squares
from benchmarks.alternatives.methods import ENTRIES, GROUPS
from benchmarks.one_step import cells
from benchmarks.one_step.cells import data_of
from flowmaps.files import write_json
from tests.small import few_samples

NAME = "eight-gaussians"


def test_modes_of_data_are_reached_with_their_width():
    """The median of 20,000 distances has a standard error of 1 %; narrow, wide and missing modes are seen."""
    x = data_of(NAME).draw(20_000).x0
    whole = eight_modes(x)
    assert whole["reached"] == 1 and whole["width"] == pytest.approx(1, abs=0.03)
    law = data_of(NAME).exact
    centre = law.means[torch.cdist(x.double(), law.means).argmin(1)]
    assert eight_modes(centre + 0.5 * (x - centre))["width"] == pytest.approx(0.5, abs=0.02)
    assert eight_modes(x[x[:, 1] > 0.5])["reached"] == 3 / 8


def test_squares_of_the_board():
    x = data_of("checkerboard").draw(4000).x0
    assert squares(x) == {"reached": 1.0, "on_board": 1.0}
    half = squares(torch.cat([x[:, :1].abs(), x[:, 1:]], 1))
    assert half["reached"] in (0.5, 0.625) and half["on_board"] < 1
    assert squares(2 * torch.rand(4000, 2) - 1)["on_board"] == pytest.approx(0.5, abs=0.032)  # four standard errors


def test_every_method_is_in_a_group_and_has_a_row():
    assert set(SETS) <= set(cells.KNOWN) and sum(map(len, GROUPS.values())) == len(ENTRIES)
    for name, entry in ENTRIES.items():
        assert entry.about.name, name


def test_cells_of_the_paths_are_taken_from_their_benchmark(tmp_path):
    (tmp_path / "paths" / NAME).mkdir(parents=True)
    write_json(tmp_path / "paths" / NAME / "imf-0.json", {"budget": 60.0})
    work = Alternatives(60.0, tmp_path / "out", tmp_path / "runs", tmp_path / "paths")
    assert work.done(NAME, "imf", 0) and not (tmp_path / "out").exists()
    assert work.target(NAME, "drifting", 0).parent == tmp_path / "out" / NAME


def test_the_cost_of_every_method_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "SIZES", {"width": 8, "depth": 1})
    monkeypatch.setattr(
        Alternatives, "teacher", lambda self, name, seed: ENTRIES["imf"].flow(data_of(name), **cells.SIZES)
    )
    work = Alternatives(60.0, tmp_path, tmp_path, tmp_path)
    for name in ENTRIES:
        cost = work.cost(NAME, name, 0)
        assert cost["passes"] > 2, name
        assert (cost["kept_bytes"] is None) == (name == "cafm"), name


@pytest.mark.slow
def test_cells_and_tables_of_a_tiny_run(tmp_path, monkeypatch):
    few_samples(monkeypatch)
    monkeypatch.setattr(cells, "SIZES", {"width": 8, "depth": 1})
    monkeypatch.setattr(cells, "EVALUATION", {"labels": False, "n": 64, "draws": 2})
    monkeypatch.setattr(alternatives.cells, "SAMPLES", 500)
    folders = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--paths", str(tmp_path / "none")]
    methods = ("imf", "drifting")
    alternatives.main(["--sets", NAME, "--budget", "0.1s", "--methods", ",".join(methods), *folders])
    for name in methods:
        cell = json.loads((tmp_path / NAME / f"{name}-0.json").read_text())
        assert "failure" not in cell, cell["failure"]
        assert cell["evaluation"]["modes"]["1"]["width"] > 0
    table = (tmp_path / f"{NAME}.md").read_text()
    assert "data against data (floor)" in table and "failed" not in table
    assert (tmp_path / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")
