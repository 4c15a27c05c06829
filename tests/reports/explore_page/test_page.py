"""The page of the post as a whole."""

import json
import re

import pytest

from benchmarks.explore import PARTS, digest, written
from flowmaps.reports.explore_page import page as pages


def test_the_networks_are_of_the_code_that_trains_them():
    """`make explore` trains them again."""
    assert {name: written(name) for name in PARTS} == {name: digest(name) for name in PARTS}
    assert {path.stem for path in pages.POST.glob("*.json")} == set(PARTS)


def test_the_page_is_one_small_file(post):
    text = post.read_text()
    assert post.stat().st_size < 5e6
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith(("#", "data:")) or source.startswith("https://sander.ai/") for source in sources)
    for chapter in pages.CHAPTERS:
        assert f'<section id="{chapter.name}">' in text


def test_every_instrument_has_its_script(post):
    names = re.findall(r'data-instrument="(\w+)"', post.read_text())
    assert len(names) == len(set(names)) >= len(pages.CHAPTERS)
    assert all((pages.HERE / "instruments" / f"{name}.js").exists() for name in names)


def test_data_cannot_end_their_element():
    assert "<" not in pages.in_script({"name": "</script><script>alert(1)</script>"})
    assert json.loads(pages.in_script({"a": "<b>"})) == {"a": "<b>"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_every_instrument_opens_and_fits(page, post, width):
    view = page(width=width, dark=width == 390)
    view.goto(post.as_uri())
    for name in re.findall(r'data-instrument="(\w+)"', post.read_text()):
        assert view.evaluate("async (name) => typeof (await instrument(name)).state()", name) == "object"
    assert view.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_an_instrument_that_fails_says_so(page, post, tmp_path):
    """A broken network is said in the place of the instrument, and the others open."""
    broken = tmp_path / "broken.html"
    broken.write_text(post.read_text().replace('"map":{', '"unmapped":{', 1))
    view = page()
    view.goto(broken.as_uri())
    assert view.evaluate("instrument('map')") is None
    view.wait_for_selector("[data-instrument=map] .failed")
    assert view.evaluate("async () => (await instrument('two_ways')).state().t") == 1
