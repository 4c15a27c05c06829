"""The tables of `benchmarks.likelihood`: marks follow from cells, and a part that was not measured is named."""

import json
import math

import pytest

from benchmarks.likelihood import report
from benchmarks.likelihood.cells import CALLS, MAPS, estimators
from benchmarks.likelihood.report import BITS, LEVELS, VALUES


def cell(kind, by, error):
    """The cell of a map on the digits, whose estimator is this far from the ODE of the map, in nats."""
    mean = {"mean": error, "stderr": 0.01}
    rows = [{"by": by, "calls": calls, "folded": 0, "nats": mean, "errors": {"ode": mean}} for calls in CALLS]
    training = {"steps": 10, "seconds": 1.0}
    return {"map": kind, "machine": "a machine", "training": training, "ode": {"nats": mean}, "rows": rows}


def test_an_empty_folder_is_said_to_be_not_measured(tmp_path):
    text = report.write(tmp_path)
    assert text.count("not measured") == 5 and "met" not in text.replace("not measured", "")
    assert (tmp_path / "cost.md").read_text() == "not measured\n"


@pytest.mark.parametrize(("error", "says"), [(0.05 * BITS, "0.05, met"), (0.2 * BITS, "0.2, missed")])
def test_a_mark_is_met_or_missed_in_bits_per_dimension(tmp_path, error, says):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "joint-0.json").write_text(json.dumps(cell("joint", "joint", error)))
    assert says in report.write(tmp_path)
    assert "1 s of training" in (tmp_path / "digits.md").read_text()
    assert (tmp_path / "errors.png").stat().st_size > 1000


def test_uniform_digits_have_the_bits_of_their_levels():
    width = 2 / (LEVELS - 1)
    nats = -VALUES * math.log(LEVELS * width)  # uniform on the whole range, with half a level beyond either end
    assert report.bits({"mean": nats, "stderr": 0.0})["mean"] == pytest.approx(math.log2(LEVELS))


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("calls", CALLS)
def test_estimators_make_the_calls_of_their_column(kind, calls):
    found = dict(estimators(kind, calls))
    assert found
    for name, by in found.items():
        steps = len(by.times) - 1 if hasattr(by, "times") else by.draws if name == "bound" else by.solver.steps
        assert steps * (2 if name == "heun" else 1) == calls
