"""A data set of the hub that a run of a stranger names: nothing is downloaded unless a person names it."""

import json

import datasets
import pytest

import flowmaps as fm
from tests.security.served import hub
from tests.security.support import SMALL, WAYS


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A data set of points with labels on a stand-in for the hub, and an empty cache."""
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [{"x": [float(row), 1.0], "label": row % 2} for row in range(200)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "README.md").write_text("# Rows\n")
    with hub(monkeypatch, tmp_path / "cache", folder) as server:
        files = server.address + "/datasets/{repo_id}/resolve/{revision}/{path}"
        for name, value in {
            "HF_DATASETS_CACHE": str(tmp_path / "tables"), "HF_ENDPOINT": server.address, "HUB_DATASETS_URL": files,
            "HF_HUB_OFFLINE": False,
        }.items():  # fmt: skip
            monkeypatch.setattr(datasets.config, name, value)
        yield server


@pytest.mark.parametrize("options", [{}, {"local_files_only": False}], ids=["by name", "with an option"])
@pytest.mark.parametrize("way", ["evaluate", "report", "distill", "$ evaluate", "$ report", "$ distill"])
def test_a_data_set_of_the_hub_that_a_run_names_is_not_downloaded(way, options, stranger, served):
    stranger.put(["data", "recipe"], {"name_or_path": f"hf:{served.NAME}", **options})
    assert "is not in the local cache, and nothing is downloaded because a file names it" in stranger.message(way)
    assert not served.asked


def test_it_is_read_from_the_cache_once_a_person_has_named_it(stranger, served):
    stranger.put(["data", "recipe"], {"name_or_path": f"hf:{served.NAME}"})
    data = fm.data.load(f"hf:{served.NAME}")
    assert data.size == 160 and data.classes == 2 and "train.jsonl" in served.files
    served.asked.clear()
    WAYS["evaluate"](stranger.run, None)
    assert fm.data.load(f"hf:{served.NAME}", local_files_only=True).recipe == {
        "name_or_path": f"hf:{served.NAME}", "local_files_only": True
    }  # fmt: skip
    assert not served.asked
    assert fm.experiments.evaluate(stranger.run, data=data, **SMALL)["rows"]
