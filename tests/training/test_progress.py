"""What the progress line says."""

from flowmaps.training.config import TrainConfig
from flowmaps.training.logging import Display, clock


def plan(steps=None, seconds=None):
    return TrainConfig(steps=steps, seconds=seconds)


def test_speed_and_time_left_count_from_the_first_step(capsys):
    with Display(plan(steps=101)) as display:
        display.begin(1, 0.0, 100.0)
        assert not display.is_due(display._shown + 1.0)
        display.show(21, 0.25, {"lagrangian": 0.5}, 0.0, 110.0)
    text = capsys.readouterr().err
    assert "21%  step 21/101  loss 0.25  mean square 0.5  2 steps/s  0:40 left" in text


def test_a_time_budget_is_told_by_its_clock(capsys):
    with Display(plan(seconds=60.0)) as display:
        display.begin(1, 0.0, 0.0)
        display.show(31, 1.5, {"a": 0.5, "b": None}, 15.0, 20.0)
    assert "25%  step 31  loss 1.5  mean squares a 0.5, b not finite  1.5 steps/s  1:00 left" in capsys.readouterr().err


def test_clock_and_progress():
    assert [clock(s) for s in (9, 61, 3723)] == ["0:09", "1:01", "1:02:03"]
    assert plan(steps=4).progress(1, 99.0) == 0.25 and plan(seconds=2.0).progress(1, 5.0) == 1
