"""Pages are made by templates: everything that is not a template is escaped, and a page needs no other file."""

import builtins
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from flowmaps.reports import downloads, page
from flowmaps.reports.gallery import Gallery, Tab
from flowmaps.reports.readings import Places
from flowmaps.reports.way import Slider, Way

NASTY = "<script>alert(\"a & b')</script>"
ESCAPED = "&lt;script&gt;alert(&#34;a &amp; b&#39;)&lt;/script&gt;"
PIXELS = page.image(b"pixels", NASTY, NASTY, NASTY)
PLACES = replace(PIXELS, places=[Places((0, 0, 1, 1), [(0.5, [0.5], NASTY)])])


class Tags(HTMLParser):
    """The tags of a page in order."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(text):
    reader = Tags()
    reader.feed(text)
    return reader.found


def guidance(**changes):
    table = page.Table([NASTY, NASTY], [("", [NASTY, NASTY])])
    values = {"summary": NASTY, "usual": "1", "boards": [[PIXELS]], "classes": [NASTY, NASTY], "chart": PLACES}
    return {**values, "table": table, "meanings": {NASTY: NASTY}, **changes}


def test_every_text_is_escaped():
    text = page.render("guidance.html.j2", guidance=guidance())
    assert NASTY not in text and "<script" not in text
    # a sentence, two classes, two pictures with three texts each, a table, a name with its meaning
    table = 2 + 2 + 1  # two heads, two cells, the second one with the name of its column
    assert text.count(ESCAPED) == 1 + 2 + 2 * 3 + table + 2
    images = [attributes["alt"] for tag, attributes in tags(text) if tag == "img"]
    assert images == [NASTY, NASTY]
    [places] = [attributes["data-places"] for _, attributes in tags(text) if "data-places" in attributes]
    assert json.loads(places)[0]["stops"] == [[0.5, [0.5], NASTY]]


def test_class_names_and_notes_of_a_run_are_escaped():
    config = json.dumps({"notes": {"note": NASTY}})
    values = {"data": {"name": NASTY, "kind": "vectors"}, "method": NASTY, "headline": NASTY, "explanation": NASTY}
    evaluation = {"metric": NASTY, "draws": 2, "samples": 3, "batch_size": 4, "device": NASTY, "threads": 1}
    parts = (
        "samples",
        "points",
        "errors",
        "others",
        "guidance",
        "consistency",
        "training",
        "curves",
        "sound",
    )
    none = dict.fromkeys(parts)
    none["steering"] = {"target": NASTY, "law": NASTY, "picture": PIXELS, "facts": {NASTY: NASTY}, "command": NASTY}
    densities = page.Table([NASTY], [("", [NASTY])])
    none["likelihood"] = {
        "quantity": NASTY, "picture": PIXELS, "table": densities, "notes": [NASTY], "command": NASTY,
    }  # fmt: skip
    none["texts"] = densities
    none["gallery"] = Gallery([Tab(NASTY, NASTY, PIXELS)], 1, 1)
    none["way"] = Way([PIXELS], Slider((1.0, 0.0), 1, PIXELS))
    none["explored"] = NASTY
    none["evaluation_file"] = downloads.uri(NASTY, "application/json")
    table = page.Table(["a"], [("", ["b"])])
    more = {"configuration": {NASTY: NASTY}, "config_json": config, "quality": table, "evaluation": evaluation}
    text = page.render("run.html.j2", **values, **none, **more)
    assert NASTY not in text and text.count("<script") == 1
    # the gallery: a label, a caption with its note, a picture; the way: the pictures of the slider and of the strip
    assert text.count(ESCAPED) == 10 + 8 + 8 + 2 + (1 + 2 + 1) + (1 + 3)
    assert "&lt;script&gt;" in text.partition("<pre")[2]


def test_a_page_has_the_style_once_and_refers_to_nothing_else():
    values = {
        "data": {"name": "d", "kind": "points"}, "methods": 1, "headline": "h", "heading": "g", "ranking": None,
        "boards": {"In one jump": [PIXELS]}, "distances": page.Table(["m", "1 jump"], [("floor", ["a", "1"])], "dense"),
        "notes": ["n"], "losses": [], "cost": page.Table(["m"], []), "settings": "{}", "document_file": "data:,",
    }  # fmt: skip
    text = page.render("comparison.html.j2", **values)
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert text.count((page.TEMPLATES / "style.css").read_text().strip()) == 1
    found = tags(text)
    assert [attributes for tag, attributes in found if tag in ("script", "iframe")] == [{}]
    sources = [value for _, attributes in found for name, value in attributes.items() if name in ("src", "href")]
    assert sources and all(source.startswith("data:") for source in sources)
    assert ("tr", {"class": "floor"}) in found and ("table", {"class": "dense"}) in found


def test_the_policy_of_a_page_allows_its_own_script_and_nothing_else():
    text = page.render("page.html.j2")
    [policy] = [attributes["content"] for tag, attributes in tags(text) if "http-equiv" in attributes]
    script = re.search("<script>(.*?)</script>", text, flags=re.S)[1]
    assert f"script-src '{page.digest(script)}';" in policy and policy.startswith("default-src 'none';")
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "") and "http" not in policy
    for name in page.SCRIPTS:
        source = (page.TEMPLATES / name).read_text()
        assert source in script and "</" not in source and "innerHTML" not in source and "eval(" not in source


def test_each_cell_of_a_table_has_the_name_of_its_column():
    """A phone shows a row as a list of names and values."""
    table = page.Table(["sampler", "distance", "time"], [("", ["1 jump", "0.1", "2 ms"]), ("floor", ["real", "0", ""])])
    cells = [attributes for tag, attributes in tags(page.render("guidance.html.j2", guidance=guidance(table=table)))
             if tag == "td"]  # fmt: skip
    assert [cell["data-name"] for cell in cells] == ["distance", "time"] * 2


def test_a_value_that_a_template_needs_and_does_not_get_is_an_error():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="summary"):
        page.render("guidance.html.j2", guidance={})


def test_a_missing_jinja_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"reports need jinja2: pip install .\.\[plot\]."):
        page.render("guidance.html.j2", guidance=guidance())
