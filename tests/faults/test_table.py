"""The table of faults in the documentation names every test of this folder, and no other."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_the_table_names_every_fault_that_is_tried():
    rows = [line for line in (HERE.parents[1] / "docs" / "faults.md").read_text().split("\n") if "`test_" in line]
    named = [re.fullmatch(r"\|.*\| `(test_\w+)` \|", row).group(1) for row in rows]
    files = [file for file in HERE.glob("test_*.py") if file.name != Path(__file__).name]
    tried = [name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)]
    assert sorted(named) == sorted(tried)
