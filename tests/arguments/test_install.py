"""The hint how to install a missing package."""

import re
import tomllib
from pathlib import Path

import pytest

from flowmaps.arguments import install

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = list((ROOT / "flowmaps").rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]


def hints():
    """The extras that messages name, by file."""
    for path in SOURCES:
        for extra in re.findall(r"install\([\"'](\w+)[\"']\)", path.read_text()):
            yield pytest.param(extra, id=f"{path.stem}-{extra}")


@pytest.mark.parametrize("extra", list(hints()))
def test_every_hint_names_an_extra_that_exists(extra):
    assert extra in EXTRAS


def test_the_hint_is_for_a_clone_since_nothing_is_published():
    assert install("train") == 'pip install ".[train]" in a clone of flowmaps'


def test_nothing_points_to_a_package_index():
    wrong = [path for path in (*SOURCES, *PAGES) if re.search(r"pip install \"?flowmaps", path.read_text())]
    assert not wrong
