"""The references of the methods: stored texts, the BibTeX reader and its errors."""

import json
import re
from pathlib import Path

import pytest

from flowmaps.methods import BEYOND, DISCRETE, DISTRIBUTIONAL, LANDSCAPE, MANIFOLDS, papers
from flowmaps.methods.papers import Paper, cite, read_bibtex, references

STORED = json.loads((Path(__file__).parent / "references.json").read_text(encoding="utf-8"))
"""Texts of version 0.1.0, where each paper was a constant of the module."""


@pytest.mark.parametrize("key", STORED)
def test_a_paper_has_the_stored_texts(key):
    assert {"short": cite(key).short, "bibtex": cite(key).bibtex} == STORED[key]
    assert getattr(papers, key.upper()) is cite(key)


def test_a_paper_is_read_back_from_its_own_bibtex():
    found = list(references().values())
    assert read_bibtex("\n".join(paper.bibtex for paper in found)) == found


def test_every_paper_of_the_file_has_its_method():
    rows = (*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL)
    assert set(references()) == {row.paper.key for row in rows}


def test_what_people_write_is_read():
    text = """
    Text between entries is a comment.
    @Article { key-1 ,
      Author = "Last, First and Other, Name",
      title={On {ODEs} and
             their maps},
      year = 2025, journal = {A Journal}
    }
    @inproceedings{b, author = {One}, title = {{Whole}}, year = "2024",
      booktitle = {A {{Big}} Conference}, pages = {1},}
    """
    assert read_bibtex(text) == [
        Paper("key-1", ("Last, First", "Other, Name"), "On {ODEs} and their maps", 2025, venue="A Journal"),
        Paper("b", ("One",), "Whole", 2024, venue="A {{Big}} Conference"),
    ]


GOOD = "author = {A}, title = {T}, year = {2025}, eprint = {1}"


@pytest.mark.parametrize(
    "text, message",
    [
        ("@misc{a, author = {A} title = {T}}", "line 1: entry a is malformed at 'author = {A} title"),
        ("\n\n@misc{a, author = {A, title = {T}}", "line 3: entry a is malformed at 'author"),
        ("@misc{a, " + GOOD, "line 1: entry a is malformed at 'eprint = {1}"),
        ("@misc{, " + GOOD + "}", "line 1: an entry starts with @type{key"),
        ("@misc{a, author = {A}, year = {2025}}", "line 1: entry a needs title, eprint or journal"),
        ("@misc{a, " + GOOD.replace("2025", "soon") + "}", "line 1: entry a needs a number for its year"),
        ("@misc{a, " + GOOD + "}\n@misc{a, " + GOOD + "}", "line 2: entry a is repeated"),
    ],
)
def test_a_malformed_entry_is_refused_with_its_place(text, message):
    with pytest.raises(ValueError, match=re.escape(f"BibTeX, {message}")):
        read_bibtex(text)


def test_names_that_are_no_papers_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'NOBODY2020'"):
        papers.NOBODY2020  # noqa: B018
