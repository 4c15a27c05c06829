"""Tables as files: standard errors have columns of their own, numbers are numbers, and no cell is a formula."""

import csv
import json
from io import StringIO
from urllib.parse import unquote

from flowmaps.figures import words
from flowmaps.reports.page import Table

TABLE = Table(
    ["sampler", "distance", "calls", "time", ""],
    [
        ("floor", ["real data", words.plus_minus(-0.01, 0.02), "", "", ""]),
        ("chosen", ["1 jump", words.plus_minus(0.9111, 0.023), "1", "21.2 µs", ""]),
        ("", ["2 jumps", "not known", "2", "", ""]),
    ],
    name="quality",
)


def text(table, suffix):
    head, _, content = table.files[f"{table.name}.{suffix}"].partition(",")
    assert head == f"data:{dict(csv='text/csv', json='application/json')[suffix]};charset=utf-8"
    assert not set(content) & set("\"'<>& \n")  # nothing that could end an attribute or a tag
    return unquote(content)


def test_a_table_is_a_csv_file_with_a_column_for_each_standard_error():
    assert list(csv.reader(StringIO(text(TABLE, "csv")))) == [
        ["sampler", "distance", "distance, standard error", "calls", "time"],
        ["real data", "-0.010", "0.020", "", ""],
        ["1 jump", "0.911", "0.023", "1", "21.2 µs"],
        ["2 jumps", "not known", "", "2", ""],
    ]


def test_a_table_is_a_json_file_with_numbers():
    rows = json.loads(text(TABLE, "json"))
    assert rows[1] == {
        "sampler": "1 jump", "distance": 0.911, "distance, standard error": 0.023, "calls": 1, "time": "21.2 µs",
    }  # fmt: skip
    assert rows[0]["distance"] == -0.01 and rows[2]["distance, standard error"] is None
    assert json.loads(text(Table(["a"], []), "json")) == []


def test_a_name_from_a_run_is_no_formula_in_a_spreadsheet():
    table = Table(["name"], [("", [name]) for name in ("=1+1", "@SUM(A1)", "-cmd", "+1", "-2.5e-3", '"</a>,')])
    cells = [row[0] for row in csv.reader(StringIO(text(table, "csv")))][1:]
    assert cells == ["'=1+1", "'@SUM(A1)", "'-cmd", "'+1", "-2.5e-3", '"</a>,']
