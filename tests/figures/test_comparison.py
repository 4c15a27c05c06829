"""The words and figures of a comparison say what its numbers say."""

import pytest

from flowmaps.figures import comparison
from flowmaps.figures.ranking import ranking


def row(distance, steps=1, sampler="jump", stderr=0.1):
    cost = {"seconds_per_sample": 1e-5, "network_calls": steps}
    return {"sampler": sampler, "steps": steps, "distance": distance, "stderr": stderr, **cost}


def entry(*rows, few_step=1):
    evaluation = {"metric": "m", "floor": 0.5, "floor_stderr": 0.1, "rows": list(rows)}
    training = {"step": 10, "loss": 1.0, "seconds": 2.0, "seconds_per_step": 0.2}
    return {"run": "r", "shared": 4, "few_step": few_step, "training": training, "evaluation": evaluation}


def document(reference=None, **methods):
    return {"data": "d", "kind": "points", "length": {"steps": 10}, "reference": reference, "methods": methods}


@pytest.mark.parametrize(
    ("length", "said"),
    [
        ({"steps": 10}, "d, each method trained for 10 steps; none could be measured"),
        ({"seconds": 90}, "d, each method trained for 90 seconds; none could be measured"),
        (
            {"seconds": 90, "clock": "processor"},
            "d, each method trained for 90 seconds of processor time; none could be measured",
        ),
    ],
)
def test_the_heading_says_the_length_and_its_clock(length, said):
    assert comparison.heading({**document(), "length": length}) == said


FAILED = {"run": "r", "shared": 3.0, "few_step": 1, "failure": "the loss is nan"}


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ({"a": 1.0, "b": 2.0}, "In one jump a comes closest to real data"),
        ({"a": 2.0, "b": 1.0, "c": 1.05}, "In one jump b and c come closest to real data"),
        ({"a": 1.0, "b": 1.1, "c": 1.05}, "In one jump a, b and c come closest to real data"),
        ({"a": None}, "1 method on d"),
    ],
)
def test_headline_names_all_that_are_level(distances, expected):
    methods = {name: entry(row(distance)) for name, distance in distances.items()}
    assert comparison.headline(document(**methods)) == expected


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (2.1, "No method has learned one jump yet: even a is hardly closer to real data than noise"),
        (6.0, "In one jump a comes closest to real data, but still far from it"),
        (50.0, "In one jump a comes closest to real data"),
    ],
)
def test_headline_weighs_the_distance_of_noise(noise, expected):
    methods = {"a": entry(row(2.0)), "b": entry(row(3.0))}
    for each in methods.values():
        each["evaluation"] |= {"noise": noise, "noise_stderr": 0.1}
    text = comparison.headline(document(**methods))
    assert text.startswith(expected) and ("still far" in text) == ("still far" in expected)


def test_a_diffusion_model_makes_no_jump():
    plain, other = entry(row(0.1, sampler="euler")), entry(row(1.0), row(9.0, sampler="euler"))
    assert comparison.headline(document(plain=plain, other=other)) == "In one jump other comes closest to real data"
    assert comparison.at(plain, 1)["sampler"] == "euler" and comparison.at(other, 1)["sampler"] == "jump"
    assert "steps of the ODE instead of jumps: plain." in " ".join(comparison.notes(document(plain=plain)))


def test_cells_stand_under_their_number_of_jumps():
    full = entry(row(1.0), row(2.0, 4), row(3.0, 100, "euler"), few_step=4)
    head, rows = comparison.table(document(reference=full, full=full, failed=FAILED))
    assert head[:6] == ["method", "1 jump", "2 jumps", "4 jumps", "8 jumps", "100 ODE steps"]
    assert [cell.partition("\u00a0")[0] for cell in rows[0]] == [
        "full", "1.00", "", "2.00", "", "3.00", "4", "10 steps, 2 s", "200 ms",
    ]  # fmt: skip
    assert rows[1][:2] == ["failed", "failed"] and rows[1][6] == "3"
    assert rows[2][0] == "reference: r" and rows[2][5].startswith("3.00")
    notes = " ".join(comparison.notes(document(full=full, failed=FAILED)))
    assert "failed failed: the loss is nan." in notes and "full (4 jumps)" in notes


def test_nothing_measured():
    empty = document(failed=FAILED)
    assert "none could be measured" in comparison.heading(empty)
    assert comparison.table(empty)[1][0][1] == "failed"


def test_ranking_has_the_best_at_the_top():
    methods = {"far": {1: row(2.0), 4: row(0.1, 4)}, "near": {1: row(1.0)}, "silent": {}}
    axis = ranking(methods, lines={"floor": 0.5}).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["silent", "far", "near"]
    assert axis.get_xscale() == "log"


@pytest.mark.parametrize(
    ("distances", "floor", "scale"),
    [
        ([0.09, 0.01], -0.0038, "linear"),
        ([-0.1], -0.1, "linear"),
        ([0.1, 0.002], -0.1, "linear"),
        ([9.0, 0.004], -0.0038, "symlog"),
        ([0.9, 0.004], -0.0002, "symlog"),
        ([3000.0, 70.0], 62.0, "log"),
    ],
)
def test_values_around_zero_do_not_take_the_axis(distances, floor, scale):
    """Distances without bias fall below 0 by chance: the part of the axis below 0 is small, and all marks are on it."""
    rows = {f"m{k}": {1: row(distance, stderr=abs(floor) / 4)} for k, distance in enumerate(distances)}
    axis = ranking(rows, lines={"real data": floor}).axes[0]
    assert axis.get_xscale() == scale
    place = lambda value: axis.transLimits.transform(axis.transScale.transform((value, 0)))[0]  # noqa: E731
    assert all(0 <= place(value) <= 1 for value in (*distances, floor))
    if max(distances) > 0 > floor and scale != "linear":
        assert place(0.0) < 0.3
    labels = [text.get_text() for text in axis.get_xticklabels() if text.get_text()]
    assert len(labels) >= 3 and not any("^" in text for text in labels)
