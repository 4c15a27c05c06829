"""Logging during training: metrics.jsonl, trackers, and a progress bar with loss, mean square, speed and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ..files import FULL, append_text, not_written
from ..method.method import Loss
from ..runs.folder import Run
from ..runs.records import metrics_line
from .config import TrainConfig
from .mean_squares import MeanSquares


class Monitor:
    """Write metrics, trackers and the progress bar (context manager); call `after` after every step.

    The loss is read from the device only if something is written.

    Args:
        run: The run folder. None: no metrics are written.
        accelerator: The accelerator of the run. Its trackers are started and finished, unless the user created it.
        config: The settings of the run.
    """

    def __init__(self, run: Run | None, accelerator: Accelerator, config: TrainConfig) -> None:
        self.run = run if accelerator.is_main_process else None
        self.accelerator, self.config = accelerator, config
        self.squares = MeanSquares(config.log_every) if accelerator.is_main_process else None
        self.trackers = config.accelerator is None and run is not None
        self.display = Display(config) if config.progress_bar and accelerator.is_main_process else None
        self.first = True
        self._logged: tuple[int, float] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self.display is not None:
            self._stack.enter_context(self.display)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def after(self, step: int, loss: Loss, lr: float, seconds: float, last: bool) -> None:
        """Write a row of metrics and update the progress bar, if they are due.

        Args:
            step: Number of steps taken.
            loss: Loss of the last step.
            lr: Learning rate of the last step.
            seconds: Time spent training.
            last: Whether training has ended.
        """
        if self.squares is not None:
            self.squares.add(step, loss)
        now = time.perf_counter()
        before = self._logged or (step, now)
        if self._logged is None or step % self.config.log_every == 0 or last:
            speed = (step - before[0]) / (now - before[1]) if step > before[0] else None
            self._write(step, loss, lr, seconds, speed)
            self._logged = step, now
        if self.display is not None and self.first:
            self.display.begin(step, seconds, now)
        self.first = False
        if self.display is not None and (last or self.display.is_due(now)):
            self.display.show(step, loss.value.item(), self._squares(), seconds, now)

    def _squares(self) -> dict[str, float | None]:
        """Return the mean squares of the terms; empty on other processes than the main one."""
        return {} if self.squares is None else self.squares.read()

    def _write(self, step: int, loss: Loss, lr: float, seconds: float, speed: float | None) -> None:
        """Write one row to metrics.jsonl and the trackers."""
        value, terms = loss.value.item(), {name: term.value.item() for name, term in loss.terms.items()}
        squares, progress = self._squares(), self.config.progress(step, seconds)
        if self.run is not None:
            row = {
                "step": step,
                "loss": value,
                "terms": terms,
                "mean_squares": squares,
                "progress": progress,
                "lr": lr,
                "steps_per_second": speed,
                "seconds": round(seconds, 3),
            }
            append_text(self.run.metrics, metrics_line(row))
        if self.trackers and self._logged is None:
            self._start_trackers(step)
        scalars = {"loss": value, "lr": lr, "progress": progress}
        scalars |= {f"terms/{name}": term for name, term in terms.items()}
        scalars |= {f"mean_squares/{name}": square for name, square in squares.items() if square is not None}
        with self._named():
            self.accelerator.log(scalars if speed is None else {**scalars, "steps_per_second": speed}, step=step)

    def _start_trackers(self, step: int) -> None:
        """Start the trackers; called at the first row, so that a run that fails earlier leaves no files.

        TensorBoard discards rows of later steps, which a resumed run repeats.
        """
        self.accelerator.init_trackers("flowmaps", init_kwargs={"tensorboard": {"purge_step": step}})
        for tracker in self.accelerator.trackers:
            self._stack.callback(self._finish, tracker)

    def _finish(self, tracker: GeneralTracker) -> None:
        """Finish a tracker."""
        with self._named():
            tracker.finish()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the folder of the trackers in the error of a full disk (context manager)."""
        try:
            yield
        except OSError as error:
            folder = self.accelerator.logging_dir
            raise (not_written(Path(folder), error) if folder and error.errno in FULL else error) from error


class Display:
    """The progress bar on a terminal or in a notebook; elsewhere one line every ten seconds (context manager).

    Args:
        config: The settings of the run, with its length.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
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
        """Start the measurement of speed and remaining time, after the first step, which may compile the loss.

        Args:
            step: Number of steps taken.
            seconds: Time spent training.
            now: Current value of the clock.
        """
        self._start = step, now, self.config.progress(step, seconds)

    def is_due(self, now: float) -> bool:
        """Whether the next update is due."""
        return now - self._shown >= self._period

    def show(self, step: int, loss: float, squares: Mapping[str, float | None], seconds: float, now: float) -> None:
        """Update the bar, or print a line.

        Args:
            step: Number of steps taken.
            loss: Value of the last loss.
            squares: Mean square of each term, before its weight; None if it is not finite.
            seconds: Time spent training.
            now: Current value of the clock.
        """
        self._shown = now
        progress = self.config.progress(step, seconds)
        text = self._text(step, f"loss {loss:.4g}{shown(squares)}", progress, now)
        if self._task is not None:
            self._bar.update(self._task, completed=progress, description=text, refresh=True)
        else:
            self.console.print(f"{100 * progress:3.0f}%  {text}", highlight=False, soft_wrap=True)

    def _text(self, step: int, losses: str, progress: float, now: float) -> str:
        """Format the state as in "step 1200/5000  loss 0.9995  mean square 0.1234  350 steps/s  0:11 left"."""
        of = "" if self.config.steps is None else f"/{self.config.steps}"
        words = [f"step {step}{of}", losses]
        first_step, first_time, first_progress = self._start
        if step > first_step:
            elapsed = now - first_time
            words.append(f"{(step - first_step) / elapsed:.3g} steps/s")
            if progress > first_progress:
                words.append(f"{clock(elapsed * (1 - progress) / (progress - first_progress))} left")
        return "  ".join(words)


def shown(squares: Mapping[str, float | None]) -> str:
    """Format mean squares as in "  mean square 0.1234", with names if there are several; "" if there are none."""
    known = {name: "not finite" if value is None else f"{value:.4g}" for name, value in squares.items()}
    if len(known) < 2:
        return "".join(f"  mean square {value}" for value in known.values())
    return "  mean squares " + ", ".join(f"{name} {value}" for name, value in known.items())


def clock(seconds: float) -> str:
    """Format a time as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
