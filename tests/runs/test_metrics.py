"""metrics.jsonl of any length is read one line at a time."""

import itertools
import tracemalloc

import pytest

from flowmaps.runs import read_metrics, records
from flowmaps.runs.folder import Run
from flowmaps.runs.records import metrics_line, metrics_rows, thinned_metrics


def row(step):
    return {
        "step": step,
        "loss": 1 / step,
        "terms": {"lsd": 1 / step},
        "lr": 0.1,
        "steps_per_second": None,
        "seconds": 0.5,
    }


def written(folder, rows):
    with (folder / "metrics.jsonl").open("w") as file:
        file.writelines(metrics_line(row(step)) for step in range(1, rows + 1))
    return folder


def peak(function):
    """The largest memory of a function, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 31, 32, 33, 1000])
def test_thinned_rows_are_evenly_spaced_and_end_with_the_last(rows, tmp_path):
    found = [row["step"] for row in thinned_metrics(written(tmp_path, rows), 16)]
    assert found[0] == 1 and found[-1] == rows and len(found) <= 16
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert len(set(gaps[:-1])) <= 1 and all(gap > 0 for gap in gaps)
    if rows <= 15:
        assert found == list(range(1, rows + 1))
    assert len(found) >= min(rows, 8)


def test_without_a_file_there_are_no_rows(tmp_path):
    assert read_metrics(tmp_path) == thinned_metrics(tmp_path) == list(metrics_rows(tmp_path)) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    """Of 4000 rows, against the memory of a list of them all."""
    run = written(tmp_path, 4_000)
    whole = peak(lambda: read_metrics(run))
    assert peak(lambda: thinned_metrics(run, 64)) < whole / 20
    assert peak(lambda: Run(run).drop_metrics_after(3_000)) < whole / 20
    assert [row["step"] for row in read_metrics(run)] == list(range(1, 3_001))


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LONGEST_LINE", 1000)
    written(tmp_path, 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(" " * 5000)
    with pytest.raises(ValueError, match=r"is damaged \(line 2 is longer than 1000 characters\)"):
        read_metrics(tmp_path)
    with pytest.raises(ValueError, match="line 2 is longer"):
        thinned_metrics(tmp_path)
