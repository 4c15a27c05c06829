"""The page of the post, written once, and a browser."""

import json
import re

import pytest

import flowmaps as fm
from tests.browser import chromium, page  # noqa: F401


@pytest.fixture(scope="session")
def post(tmp_path_factory):
    """The file of the page of the post."""
    return fm.reports.explore(tmp_path_factory.mktemp("post") / "explore.html")


@pytest.fixture(scope="session")
def data(post):
    """The data in the page."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', post.read_text(), flags=re.S)[1]
    return json.loads(text)


def records(value):
    """All records of flow maps inside of values of JSON."""
    if isinstance(value, dict):
        if "network" in value and "path" in value:
            yield value
        else:
            for inner in value.values():
                yield from records(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from records(inner)
