"""docs/security.md names tests that exist, and at least one of every file of this folder."""

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = (ROOT / "docs/security.md").read_text()


def names_in(file):
    return re.findall(r"^def (test_\w+)", file.read_text(), re.M)


def test_each_line_of_the_page_names_tests_that_exist():
    rows = re.findall(r"^\| (?!threat|---)(.+) \| (.+) \| (.+) \|$", PAGE, re.M)
    there = {name for file in (ROOT / "tests").rglob("test_*.py") for name in names_in(file)}
    named = [re.findall(r"`(test_\w+)`", tests) for _, _, tests in rows]
    assert len(rows) > 20 and all(named)
    assert {name for names in named for name in names} <= there


def test_each_file_of_this_folder_is_on_the_page():
    for file in HERE.glob("test_*.py"):
        assert file.name == Path(__file__).name or any(f"`{name}`" in PAGE for name in names_in(file)), file.name
