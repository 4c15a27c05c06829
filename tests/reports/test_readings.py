"""Places of values in charts: where matplotlib draws them, with the numbers of Python."""

import json
import math

import pytest
import torch

from flowmaps.figures.charts import heat_map, loss_curves, smooth
from flowmaps.figures.ranking import ranking
from flowmaps.reports import page, readings


def test_curves_have_their_smoothed_values_and_leave_out_what_is_not_finite():
    values = [1.0, 4.0, math.nan, *[2.0] * 37]
    rows = [{"step": k, "loss": value, "terms": {"a": value, "b": 3.0}} for k, value in enumerate(values)]
    [places] = page.drawing(lambda theme: loss_curves(rows, theme=theme), "", read=readings.curves).places
    assert places.across and len(places.stops) == 40
    x, [height, _], text = places.stops[1]
    assert text == f"training step 1\na: {smooth(values)[1]:.3g}\nb: 3" and 0 < x < 0.1 and height > 0.4
    assert places.stops[2][2] == "training step 2\nb: 3"  # the running mean of nan is nan
    json.dumps(places.stops, allow_nan=False)


def test_many_steps_are_thinned_and_the_last_one_stays():
    rows = [{"step": k, "loss": 1.0, "terms": {"a": 1.0}} for k in range(900)]
    [places] = readings.curves(loss_curves(rows))
    assert len(places.stops) <= readings.MOST + 1 and places.stops[-1][2].startswith("training step 899\n")


def test_cells_are_where_the_heat_map_has_them():
    times = torch.linspace(0, 1, 5)
    values = torch.arange(25.0).reshape(5, 5).tril() + 1
    values[values == 1] = math.nan
    read = readings.cells(values, times, "%")
    picture = page.drawing(lambda theme: heat_map(values, times, theme=theme), "", read=read)
    [places] = picture.places
    assert len(places.stops) == 14 and places.cell == (0.2, 0.2)
    assert (0.7, [0.3], "s = 0.75 to t = 0.25\n17 %") in places.stops
    left, top, width, height = places.frame
    assert 0 < left and left + width < 1 and 0 < top and top + height < 1


def test_marks_name_their_row_and_their_series():
    row = {"distance": 0.5, "stderr": 0.012}
    made = ranking({"lsd": {1: row}, "imf": {1: {**row, "distance": 0.1}, 2: {**row, "distance": 0.05}}})
    [places] = readings.marks(made)
    texts = {stop[2].replace("\u00a0", " ") for stop in places.stops}
    assert texts == {"lsd, 1 jump\n0.500 ± 0.012", "imf, 1 jump\n0.100 ± 0.012", "imf, 2 jumps\n0.050 ± 0.012"}
    assert not places.across and all(0 < stop[0] < 1 for stop in places.stops)


def test_a_frame_is_a_share_of_the_picture():
    places = readings.Places((30.0, 90.0, 50.0, 40.0), ())
    found = readings.placed(places, left=10.0, top=100.0, width=200.0, height=80.0)
    assert found.frame == pytest.approx((0.1, 0.125, 0.25, 0.5))
