"""Entries of a config.json about texts and columns: what does not fit is refused, with the file."""

from pathlib import Path

import pytest

import flowmaps as fm
from flowmaps.runs.loading import read_columns, read_vocabulary
from flowmaps.serialise import describe

FILE = Path("config.json")
LETTERS = fm.data.Characters("ab ")
COLUMNS = fm.data.Columns(("height",), (("kind", ("a", "b")),))


@pytest.mark.parametrize(
    "read, name, whole", [(read_vocabulary, "vocabulary", LETTERS), (read_columns, "columns", COLUMNS)]
)
def test_an_entry_is_read_back_and_another_one_is_refused(read, name, whole):
    data = {"shape": [4, 3] if name == "vocabulary" else [3]}
    assert read({"data": data}, FILE) is None
    assert read({"data": {**data, name: describe(whole)}}, FILE) == whole
    twice = {"type": "data.Characters", "arguments": {"symbols": "aab"}}
    for broken in (
        3,
        {"type": "networks.MLP"},
        {"type": "units.Units", "arguments": {"mean": [1.0], "std": [1.0]}},
        twice,
    ):
        with pytest.raises(ValueError, match="config.json cannot be used: "):
            read({"data": {**data, name: broken}}, FILE)
    with pytest.raises(ValueError, match="config.json cannot be used: data.* 3"):
        read({"data": {"shape": [7], name: describe(whole)}}, FILE)
