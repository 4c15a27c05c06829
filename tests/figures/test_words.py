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


SCALE = {"metric": "m", "floor": 62.0, "floor_stderr": 1.0, "noise": 4000.0, "noise_stderr": 10.0}


@pytest.mark.parametrize(
    ("jump", "ode", "expected"),
    [
        (3900.0, 3900.0, "Nothing has been learned yet: samples of this run are hardly closer to real data than noise"),
        (9000.0, 3900.0, "Nothing has been learned yet"),
        (3900.0, 70.0, "One jump has not been learned yet: its samples are hardly closer to real data than noise"),
        (2000.0, 2000.0, "times faster, and as far from real data."),
        (1000.0, 2000.0, "times faster, and closer to real data, but still far from it."),
        (200.0, 200.0, "times faster, and as close to real data."),
        (63.0, 63.0, "times faster, and as close to real data."),
    ],
)
def test_a_headline_weighs_the_floor_and_the_noise(jump, ode, expected):
    rows = [{**JUMP, "distance": jump, "stderr": 1.0}, {**ODE, "distance": ode, "stderr": 1.0}]
    found = {**SCALE, "rows": rows}
    assert expected in words.headline(found, "images")
    assert (words.ADVICE in words.explanation(found)) == ("learned yet" in expected)
    assert "noise of the same mean and spread 4000\u00a0±\u00a010" in words.explanation(found)


def test_the_noise_of_a_manifold_is_named():
    found = {**SCALE, "rows": [{**JUMP, "distance": 4000.0}], "noise_name": "the prior of Sphere(n=2)"}
    assert words.headline(found, "vectors").endswith("hardly closer to real data than the prior of Sphere(n=2).")
    assert "and the prior of Sphere(n=2) 4000\u00a0±" in words.explanation(found)


def test_a_headline_without_an_ode_does_not_praise_noise():
    found = {**SCALE, "rows": [{**JUMP, "distance": 4000.0}]}
    assert words.headline(found, "points").startswith("Nothing has been learned yet")


def test_an_earlier_evaluation_without_the_distance_of_noise_is_weighed_by_its_floor():
    rows = [{**JUMP, "distance": 3000.0, "stderr": 9.0}, {**ODE, "distance": 3000.0, "stderr": 9.0}]
    found = {"metric": "m", "floor": 62.0, "floor_stderr": 1.0, "rows": rows}
    assert words.headline(found, "images").endswith("and as far from real data.")
    unbiased = {**found, "floor": -0.0001, "floor_stderr": 0.0002}
    assert words.headline(unbiased, "points").endswith("and at the same distance from real data.")


def test_data_that_are_distributed_like_noise_have_no_standing():
    found = {"floor": 0.0, "floor_stderr": 0.001, "noise": 0.0005, "noise_stderr": 0.001}
    assert words.standing({**JUMP, "distance": 0.01, "stderr": 0.001}, found) is None
    assert words.standing({**JUMP, "distance": 0.001, "stderr": 0.001}, found) == "real"


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
