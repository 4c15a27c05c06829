"""Public names of version 0.1.0: each works as before, or the changelog says what to write instead."""

import inspect
import re
from functools import reduce
from pathlib import Path

import flowmaps as fm
from tests.in_one import in_one

HERE = Path(__file__).parent
OLD = [
    (name, [part for part in names.rstrip(")").split(", ") if part])
    for name, _, names in (line.partition("(") for line in (HERE / "names_of_0_1_0.txt").read_text().splitlines())
]
"""Each public name of 0.1.0 with the names of its arguments."""
[VERSION] = re.findall(r"^## \[0\.2\.0\].*?(?=^## )", (HERE.parent / "CHANGELOG.md").read_text(), flags=re.M | re.S)
ROWS = re.findall(r"^\| (.*?) \| (.*) \|$", VERSION[VERSION.index("### From 0.1.0") :], flags=re.M)
"""Left and right cells of the tables in the section of this version."""
REPLACED = {name for left, _ in ROWS for name in re.findall(r"`([^`]+)`", left)}


def find(name):
    """The object that a name such as "fm.times.gap" stands for."""
    return reduce(getattr, name.split(".")[1:], fm)


def has_replacement(name):
    """Whether the left column has `name`, without "fm.", or the module or class that it belongs to."""
    parts = name.removeprefix("fm.").split(".")
    return not REPLACED.isdisjoint(".".join(parts[:end]) for end in range(1, len(parts) + 1))


@in_one("name, arguments", OLD)
def test_a_name_works_or_has_its_replacement_in_the_changelog(name, arguments):
    try:
        now = find(name)
    except AttributeError:
        assert has_replacement(name), f"{name} is gone, and no table says what to write instead"
        return
    if callable(now) and arguments:
        taken = set(inspect.signature(now).parameters)
        for argument in set(arguments) - taken:
            assert f"{name.removeprefix('fm.')}({argument}=)" in REPLACED, f"{name} takes no {argument!r}"


def test_a_name_that_is_in_no_table_is_noticed():
    assert not has_replacement("fm.times.nothing_of_this_name")


def test_names_in_the_right_column_exist():
    names = {name for _, right in ROWS for name in re.findall(r"`(fm(?:\.\w+)+)", right)}
    assert len(names) > 10
    for name in names:
        find(name)
