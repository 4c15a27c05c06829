"""The progress bar: loss, speed, time left. On a terminal or in a notebook a bar; elsewhere a line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ..runs.plan import Plan


class Display:
    """A context that `show`s where training is, twice a second on a terminal and every ten seconds elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal or self.console.is_jupyter
        self._period = 0.5 if self.live else 10.0
        columns = (TextColumn("training"), BarColumn(), TextColumn("{task.percentage:>3.0f}%  {task.description}"))
        self._bar = Progress(*columns, console=self.console, auto_refresh=False)
        self._task: TaskID | None = None
        self._start = (0, 0.0, 0.0)
        self._shown = time.perf_counter()

    def __enter__(self) -> Self:
        if self.live:
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self._bar.stop()

    def begin(self, step: int, seconds: float, now: float) -> None:
        """Speed and time left count from here: the end of the first step, in which things are compiled."""
        self._start = step, now, self.plan.progress(step, seconds)

    def is_due(self, now: float) -> bool:
        """Whether it is time for another look."""
        return now - self._shown >= self._period

    def show(self, step: int, loss: float, seconds: float, now: float) -> None:
        """Draw the bar, or print a line."""
        self._shown = now
        progress = self.plan.progress(step, seconds)
        text = self._text(step, loss, progress, now)
        if self._task is not None:
            self._bar.update(self._task, completed=progress, description=text, refresh=True)
        else:
            self.console.print(f"{100 * progress:3.0f}%  {text}", highlight=False, soft_wrap=True)

    def _text(self, step: int, loss: float, progress: float, now: float) -> str:
        """step 1200/5000  loss 0.1234  350 steps/s  0:11 left."""
        of = "" if self.plan.steps is None else f"/{self.plan.steps}"
        words = [f"step {step}{of}", f"loss {loss:.4g}"]
        first_step, first_time, first_progress = self._start
        if step > first_step:
            elapsed = now - first_time
            words.append(f"{(step - first_step) / elapsed:.3g} steps/s")
            if progress > first_progress:
                words.append(f"{clock(elapsed * (1 - progress) / (progress - first_progress))} left")
        return "  ".join(words)


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
