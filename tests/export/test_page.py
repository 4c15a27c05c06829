"""The blocks of docs/export.md run."""

import re
from pathlib import Path

import torch

import flowmaps as fm

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S):
        exec(block, names)
    torch.testing.assert_close(names["samples"], fm.sample(names["flow"], names["noise"], condition=names["label"]))
    assert (tmp_path / "exported" / "model_index.json").is_file()
