"""The gallery has a picture of every example, and every section of the page about the post has one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples"
PICTURE = r"!\[(.+)\]\((images/\S+)\)\n\n(.+)"
"""A picture with its alternative text, its file and the paragraph below it."""
TOOLS = {"gallery"}
"""Scripts that are no examples."""


def pictures(text):
    """File, alternative text and names of examples of each picture, of which the file exists."""
    found = []
    for words, file, below in re.findall(PICTURE, text):
        assert (DOCS / file).is_file(), file
        assert len(words) > 40 or file.endswith("digits.png"), f"{file} needs a description"
        found.append((file, re.findall(r"\]\(\.\./examples/(\w+)\.py\)", below)))
    return found


def test_every_example_has_its_picture_and_its_code_in_the_gallery():
    found = {}
    for file, names in pictures((DOCS / "gallery.md").read_text()):
        assert len(names) == 1, file
        found[names[0]] = file
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("_")}
    assert set(found) == scripts - TOOLS
    numbered = {name: file for name, file in found.items() if re.match(r"\d\d_", name)}
    assert numbered == {name: f"images/gallery/{name}.png" for name in numbered}
    assert {path.stem for path in (DOCS / "images/gallery").iterdir()} == set(numbered)


@pytest.mark.parametrize("name", ["gallery.md", "the_post.md"])
def test_pictures_are_small(name):
    for file, _ in pictures((DOCS / name).read_text()):
        largest = 60_000 if "gallery/" in file else 2_000_000
        assert (DOCS / file).stat().st_size < largest, file


def test_every_section_of_the_post_has_a_picture_by_an_example():
    sections = re.split(r"^## (?=\d)", (DOCS / "the_post.md").read_text().partition("\n## Examples")[0], flags=re.M)[1:]
    assert len(sections) == 8
    for section in sections:
        found = pictures(section)
        assert found, section.splitlines()[0]
        for file, names in found:
            assert [(EXAMPLES / f"{name}.py").is_file() for name in names] == [True], file
