"""The table about the distilled model of diffusers is the one of its results."""

import json

import pytest

from benchmarks.pretrained.run import COLUMNS, JUMPS, METHODS, MODES, RESULTS, TEACHER_STEPS, table


@pytest.fixture(scope="module")
def result():
    return json.loads((RESULTS / "results.json").read_text())


def test_the_table_is_that_of_the_results(result):
    assert (RESULTS / "table.md").read_text() == table(result) + "\n"


def test_every_run_is_there_beside_the_teacher_and_the_data(result):
    rows = {(row["model"], row.get("mode"), row["steps"]) for row in result["rows"]}
    jumps = {(run["method"], run["mode"]): run["jumps"] for run in result["runs"]}
    assert jumps.keys() == {(method, mode) for method in METHODS for mode in MODES}
    assert all(tuple(taken) == ((1,) if method == "pid" else JUMPS) for (method, _), taken in jumps.items())
    assert rows == {("teacher", None, n) for n in TEACHER_STEPS} | {(*run, n) for run, ns in jumps.items() for n in ns}
    assert set(COLUMNS) - {"to_teacher"} <= result["floor"].keys()
