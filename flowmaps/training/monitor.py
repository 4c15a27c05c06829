"""What a run says while it trains: metrics.jsonl, trackers, a progress bar."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from accelerate import Accelerator

from ..method.method import Loss
from ..runs.folder import Run
from ..runs.plan import Plan
from .progress import Display


class Monitor:
    """A context; `after` is called with every step and reads the loss from the device only when it writes something.

    trackers: whether those of the accelerator are to be started and finished here.
    """

    def __init__(
        self, run: Run | None, accelerator: Accelerator, plan: Plan, log_every: int, display: bool, trackers: bool
    ) -> None:
        self.run = run if accelerator.is_main_process else None
        self.accelerator, self.plan, self.log_every = accelerator, plan, log_every
        self.trackers = trackers and run is not None
        self.display = Display(plan) if display and accelerator.is_main_process else None
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
        """Write a row of metrics when it is time for one, and show how far training is."""
        now = time.perf_counter()
        before = self._logged or (step, now)
        if self._logged is None or step % self.log_every == 0 or last:
            speed = (step - before[0]) / (now - before[1]) if step > before[0] else None
            self._write(step, loss, lr, seconds, speed)
            self._logged = step, now
        if self.display is not None and self.first:
            self.display.begin(step, seconds, now)
        self.first = False
        if self.display is not None and (last or self.display.is_due(now)):
            self.display.show(step, loss.value.item(), seconds, now)

    def _write(self, step: int, loss: Loss, lr: float, seconds: float, speed: float | None) -> None:
        value, terms = loss.value.item(), {name: term.value.item() for name, term in loss.terms.items()}
        if self.run is not None:
            row = {
                "step": step,
                "loss": value,
                "terms": terms,
                "lr": lr,
                "steps_per_second": speed,
                "seconds": round(seconds, 3),
            }
            with self.run.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self.trackers and self._logged is None:
            self._start_trackers(step)
        scalars = {"loss": value, **{f"terms/{name}": term for name, term in terms.items()}, "lr": lr}
        self.accelerator.log(scalars if speed is None else {**scalars, "steps_per_second": speed}, step=step)

    def _start_trackers(self, step: int) -> None:
        """At the first row, so that a run that fails before it leaves nothing. TensorBoard drops what it had of the
        steps to come.
        """
        self.accelerator.init_trackers("flowmaps", init_kwargs={"tensorboard": {"purge_step": step}})
        for tracker in self.accelerator.trackers:
            self._stack.callback(tracker.finish)
