"""The record of log-densities, as a file of a stranger: checked entry by entry, and never a picture of its own."""

import copy
import json

import pytest

from flowmaps.reports import likelihood, page
from flowmaps.runs.likelihood_record import KEPT, read_likelihood_record, write_likelihood_record

ROW = {
    "by": "ode:50", "rows": "held-out", "n": 3, "nats": -1.5, "stderr": 0.25, "bits": 2.0, "bits_stderr": 0.1,
    "per_value": -0.75, "error": None, "folded": 0, "passes": 600, "seconds": 1.25, "auroc": None,
}  # fmt: skip
RECORD = {
    "step": 3, "data": "digits", "levels": 17, "quantity": "log p(x)", "accuracy": {"ode:50": 0.5},
    "rows": [ROW, {**ROW, "rows": "random", "auroc": 0.75, "nats": None, "bits": None, "folded": 3}],
    "values": {"ode:50": {"held-out": [-1.0, -1.5, -2.0], "random": []}}, "notes": ["A note"], "command": None,
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A folder with a record."""
    write_likelihood_record(tmp_path, RECORD)
    return tmp_path


def test_a_record_comes_back_and_becomes_a_section(run):
    record = read_likelihood_record(run)
    assert {name: record[name] for name in RECORD} == RECORD
    text = page.render("likelihood.html.j2", likelihood=likelihood.section(record))
    for words in ("held-out (3)", "2.0", "75.0%", "A note.", "50.0% of held-out rows", "data:image/svg+xml;base64,"):
        assert words in text, words


def test_texts_of_a_record_are_escaped(run):
    bad = {**RECORD, "data": "<script>", "notes": ["<b>"], "command": "<i>", "quantity": "<u>"}
    write_likelihood_record(run, bad)
    text = page.render("likelihood.html.j2", likelihood=likelihood.section(read_likelihood_record(run)))
    assert not any(tag in text for tag in ("<script>", "<b>", "<i>", "<u>"))


def test_numbers_of_a_histogram_may_be_alike_or_none(run):
    for values in ([], [1.0], [1.0, 1.0, 1.0], [1e30, -1e30]):
        section = likelihood.section({**RECORD, "values": {"ode:50": {"held-out": values, "random": [0.0]}}})
        assert section.picture.source.startswith("data:image/svg+xml")


def test_without_a_record(tmp_path):
    assert read_likelihood_record(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_the_picture_beside_it_is_not_read(run, content):
    if content is not None:
        (run / "likelihood.png").write_bytes(content)
    assert read_likelihood_record(run)["rows"][0] == ROW


def test_a_changed_record_is_left_out_with_a_warning(run):
    text = (run / "likelihood.json").read_text()
    (run / "likelihood.json").write_text(text.replace("-0.75", "-0.7"))
    with pytest.warns(UserWarning, match="likelihood.json has changed since it was written"):
        assert read_likelihood_record(run) is None


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *[((name,), None) for name in RECORD if name not in ("levels", "command")],
        *[((name,), 3.5) for name in RECORD],
        *[(("rows", 0, name), "high") for name in ROW if name not in ("by", "rows")],
        *[(("rows", 0, name), -1) for name in ("n", "stderr", "error", "folded", "passes", "seconds", "auroc")],
        *[(("rows", 0, name), float("nan")) for name in ("nats", "seconds", "bits")],
        (("rows", 0, "nats"), 1e40),
        (("rows", 0, "nats"), True),
        (("rows", 0, "by"), None),
        (("rows", 0, "by"), "x" * 5000),
        (("step",), -1),
        (("step",), 2**50),
        (("levels",), 1),
        (("rows",), []),
        (("rows",), [ROW] * 300),
        (("values",), {}),
        (("values",), {"ode:50": [1.0]}),
        (("values", "ode:50", "held-out"), ["1"]),
        (("values", "ode:50", "held-out"), [float("inf")]),
        (("values", "ode:50", "held-out"), [0.0] * (KEPT + 1)),
        (("accuracy", "ode:50"), None),
        (("notes",), ["x" * 5000]),
        (("notes",), ["x"] * 300),
        (("command",), "x" * 5000),
    ],
)
def test_each_entry_is_checked(run, place, value):
    record = copy.deepcopy(json.loads((run / "likelihood.json").read_text()))
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (run / "likelihood.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"likelihood\.json.* cannot be used|likelihood\.json"):
        read_likelihood_record(run)


@pytest.mark.parametrize("name", list(RECORD))
def test_a_missing_entry_is_named(run, name):
    record = json.loads((run / "likelihood.json").read_text())
    del record[name]
    (run / "likelihood.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"likelihood\.json.*{name}"):
        read_likelihood_record(run)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"step": 1}'])
def test_a_broken_record_is_refused(run, text):
    (run / "likelihood.json").write_text(text)
    with pytest.raises(ValueError, match=r"likelihood\.json"):
        read_likelihood_record(run)
