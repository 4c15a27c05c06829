"""The documentation builds without a warning, names only what exists, and shows only what runs."""

import functools
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import flowmaps as fm
from flowmaps.cli import parse
from flowmaps.methods import LANDSCAPE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
INTERNAL = {
    "__main__",
    "serialise",
    "files",
    "runs",
    "distributed",
    "experiments",
    "figures",
    "reports",
}


def read(page):
    return (DOCS / page).read_text()


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), flags=re.M | re.S)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site):
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(https?:|//)", text)
        styles = re.findall(r"<link\b[^>]*rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*href=[\"']?(https?:|//)", text)
        assert not loaded + styles + re.findall(r"(?:@import|url\()\s*[\"']?(https?:|//)", text), page


def test_the_landscape_page_has_every_method(site):
    page = (site / "landscape.html").read_text()
    for row in LANDSCAPE:
        assert f'id="{row.name}"' in page
        assert re.search(r"@\w+\{", row.bibtex)
    assert page.count("<summary>BibTeX") == len(LANDSCAPE)


def test_the_costs_that_differ_from_the_posts_are_explained_and_no_others():
    explained = {
        name.lower().replace("-", "_"): (float(ours), int(published))
        for names, ours, published in re.findall(r"^(.+): (\S+), in the post (\d+)$", read("landscape.md"), flags=re.M)
        for name in names.split(" and ")
    }
    differ = {
        row.name: (row.cost, row.published_cost) for row in LANDSCAPE if row.published_cost not in (None, row.cost)
    }
    assert explained == differ


def test_every_method_is_in_the_advice_and_in_the_walk_through_the_post():
    for page in ("choosing.md", "the_post.md"):
        words = set(re.findall(r"\w+", read(page)))
        missing = {row.name for row in LANDSCAPE} - words
        assert not missing, page


def test_every_public_module_has_its_page():
    shown = {name for page in PAGES for name in re.findall(r"^::: flowmaps\.(\w+)", page.read_text(), flags=re.M)}
    modules = {module.name for module in pkgutil.iter_modules(fm.__path__)} - INTERNAL - {"cli"}
    assert modules == shown


def test_what_the_pages_name_exists():
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(r"\bflowmaps(?:\.\w+)+", text):
            if not name.endswith((".py", ".git")):
                pkgutil.resolve_name(name)
        for name in re.findall(r"\bfm((?:\.\w+)+)", text):
            functools.reduce(getattr, name[1:].split("."), fm)
        for path in re.findall(r"`((?:flowmaps|tests|docs|examples|benchmarks)/[\w/.]*)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_commands_of_the_pages_are_commands():
    lines = [line for page in PAGES for line in page.read_text().splitlines() if line.startswith("flowmaps ")]
    assert len(lines) > 10
    for line in lines:
        parse(shlex.split(line)[1:])


def test_the_first_page_runs():
    names = {}
    for block in blocks("index.md", "python"):
        exec(block.replace("steps=2000", "steps=3"), names)
    assert names["one_jump"].shape == names["ode"].shape == names["noise"].shape
    assert all(weight.grad is not None for weight in names["flow"].parameters())


def test_the_page_about_guidance_runs():
    names = {}
    for block in blocks("guidance.md", "python"):
        exec(block, names)
    assert names["samples"].shape == names["one_jump"].shape == names["noise"].shape
    assert names["state"].flow.guidance.is_conditioned


def test_the_page_about_students_runs():
    names = {}
    for block in blocks("students.md", "python"):
        exec(block, names)
    assert names["told"].network.told == ("guidance",) and names["flow"].network.tame is not None


def test_the_method_of_ones_own_is_right_and_learns():
    names = {}
    for block in blocks("extending.md", "python"):
        exec(block, names)
    tests = [test for name, test in names.items() if name.startswith("test_")]
    for test in tests:
        test()
    assert len(tests) == 3
    rows = {row.name: row for row in LANDSCAPE}
    assert names["row"].build().name == names["row"].name and names["row"].learning == rows["lsd"].learning
