"""The expected time of a training, measured from its first steps, and advice if it is long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

ENOUGH = 3.0
"""Seconds of steps after the first one, which compiles and warms up, that are measured."""
LONG = 300.0
"""Expected time in seconds from which a line is said."""
FEW = 500
"""Number of steps in a given time below which a line is said."""
PERIOD = 10.0
"""Seconds between two lines about the progress of a work."""
ADVICE = "Faster steps: a smaller `width`, `depth` or `batch_size`"


@dataclass
class Forecast:
    """Says once how long a training will take, if it is long.

    Args:
        say: Receives the line.
        steps: Length in steps. None: given in seconds.
        seconds: Length in seconds. None: given in steps.
        on_cpu: Whether a GPU would help.
        clock: Returns the time in seconds.
    """

    say: Callable[[str], object]
    steps: int | None
    seconds: float | None
    on_cpu: bool = True
    clock: Callable[[], float] = time.perf_counter
    _begin: tuple[int, float] | None = field(default=None, init=False)
    _done: bool = field(default=False, init=False)

    def after(self, step: int) -> None:
        """Note that this step, counted from 1, has been taken."""
        if self._done:
            return
        now = self.clock()
        if self._begin is None:
            self._begin = step, now
            return
        first, begin = self._begin
        if now - begin >= ENOUGH:
            self._done = True
            if line := self._line((now - begin) / (step - first), step):
                self.say(line)

    def _line(self, each: float, step: int) -> str:
        """The line for steps of this time; "" if training is short, or has enough steps."""
        advice = ADVICE + (", or a GPU" if self.on_cpu else ", or `precision=bf16`")
        if self.seconds is not None:
            count = round(self.seconds / each)
            if count >= FEW:
                return ""
            return (
                f"{in_words(self.seconds)} are enough for about {count} steps of {each:.2g} s: that is little. {advice}"
            )
        assert self.steps is not None
        left = self.steps - step
        if left * each < LONG:
            return ""
        times = f"The {left:,} steps that are left take about {in_words(left * each)}, {each:.2g} s each"
        return f"{times}. {advice}. Or fewer `steps`"


def progress_of(
    say: Callable[[str], object], what: str, clock: Callable[[], float] = time.perf_counter
) -> Callable[[int, int], None]:
    """A function (done, total) for `progress`, which says every ten seconds how far a work is, and the time left.

    Args:
        say: Receives the lines; work of less than ten seconds has none.
        what: The work in words, such as "Making couplings".
        clock: Returns the time in seconds.

    Returns:
        The function.
    """
    begin = shown = clock()

    def after(done: int, total: int) -> None:
        nonlocal shown
        now = clock()
        if now - shown >= PERIOD and done < total:
            shown = now
            say(f"{what}, {done / total:.0%}: {in_words((now - begin) / done * (total - done))} left")

    return after


def in_words(seconds: float) -> str:
    """A time such as 40 s, 5 min, 3 h 20 min or 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(round(seconds / 600) * 10, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
