"""The expected time of a training, from the times of its first steps."""

import pytest

from flowmaps.experiments.forecast import Forecast, in_words, progress_of


def said(each, *, first=30.0, steps=None, seconds=None, start=0, on_cpu=True):
    """The lines about a training with steps of this time after a slow first one."""
    now, lines = [0.0], []
    forecast = Forecast(lines.append, steps, seconds, on_cpu, clock=lambda: now[0])
    for k in range(1, 40):
        now[0] += first if k == 1 else each
        forecast.after(start + k)
    return lines


def test_a_long_training_is_announced_once_without_its_slow_first_step():
    [line] = said(2.0, steps=5003)
    assert line.startswith("The 5,000 steps that are left take about 2 h 50 min, 2 s each.")
    assert "`width`" in line and "`batch_size`" in line and "a GPU" in line


def test_a_resumed_training_has_the_rest_left():
    [line] = said(2.0, steps=5003, start=4000)
    assert "The 1,000 steps" in line and "33 min" in line


def test_a_short_training_is_not_announced():
    assert not said(0.2, steps=1000) and not said(0.01, seconds=60.0)


def test_a_time_with_few_steps_is_announced():
    [line] = said(2.0, seconds=120.0, on_cpu=False)
    assert line.startswith("2 min are enough for about 60 steps of 2 s") and "a GPU" not in line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40, "40 s"), (300, "5 min"), (3600, "60 min"), (12000, "3 h 20 min"), (7200, "2 h"), (187200, "2 d 4 h")],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


def test_a_long_work_is_told_every_ten_seconds():
    """100 parts of one second each; one of half a tenth of a second has no line."""
    now, lines = [0.0], []
    tell = progress_of(lines.append, "Making couplings", clock=lambda: now[0])
    for done in range(1, 101):
        now[0] += 1
        tell(done, 100)
    assert len(lines) == 9 and lines[0] == "Making couplings, 10%: 90 s left"
    lines.clear()
    tell = progress_of(lines.append, "Making couplings", clock=lambda: now[0])
    for done in range(1, 101):
        now[0] += 0.05
        tell(done, 100)
    assert not lines
