"""The sentences say what the numbers say."""

import pytest

from flowmaps.figures import words

JUMP = {
    "sampler": "jump",
    "steps": 1,
    "distance": 1.0,
    "stderr": 0.1,
    "seconds_per_sample": 1e-5,
    "network_calls": 1,
}
ODE = {**JUMP, "sampler": "euler", "steps": 100, "seconds_per_sample": 1e-3, "network_calls": 100}
HEAD = {"metric": "m", "floor": 0.9, "floor_stderr": 0.02}


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (1.05, "and as close to real data"),
        (2.0, "and closer to real data"),
        (0.5, "but 2 times as far from real data"),
        (-0.001, "but farther from real data"),
    ],
)
def test_headline(distance, expected):
    text = words.headline({**HEAD, "rows": [JUMP, {**ODE, "distance": distance}]}, "images")
    assert text == f"1 network call instead of 100 makes images 100 times faster, {expected}."


def test_headline_is_about_the_reference_where_there_is_one():
    rows = [JUMP, {**ODE, "distance": 3.0}, {**ODE, "distance": 0.5, "run": "plain"}]
    text = words.headline({**HEAD, "rows": rows}, "images")
    assert text.endswith("but 2 times as far from real data as 100 ODE steps of plain.")


def test_headline_without_an_ode():
    text = words.headline({**HEAD, "rows": [JUMP]}, "points")
    assert text.startswith("One network call makes points at distance 1.00\u00a0±\u00a00.10 from real data")


def test_names():
    assert words.name(JUMP) == "1 jump"
    assert words.name({**ODE, "run": "plain"}) == "100 ODE steps of plain"


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (1.23456, 0.021, "1.235\u00a0±\u00a00.021"),
        (-0.0012, 0.0005, "−0.00120\u00a0±\u00a00.00050"),
        (123.4, 12.0, "123\u00a0±\u00a012"),
        (0.5, None, "0.5"),
        (None, None, "not known"),
    ],
)
def test_value_with_error(value, error, expected):
    assert words.plus_minus(value, error) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(2.5, "2.5 s"), (0.014, "14 ms"), (2.9e-5, "29 µs"), (3e-7, "300 ns"), (4e-10, "0.4 ns")]
)
def test_times(value, expected):
    assert words.seconds(value) == expected


def test_a_markdown_table_has_padded_columns_and_escaped_bars():
    assert words.markdown_table(["method", "a|b"], [["meanflow", "1"], ["ct", "12345"]]).splitlines() == [
        "| method   |  a\\|b |",
        "| -------- | ----: |",
        "| meanflow |     1 |",
        "| ct       | 12345 |",
    ]
