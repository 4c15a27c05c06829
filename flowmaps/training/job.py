"""A learner with its data, its clock and its folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ..data import Batch, Data, nothing
from ..method import Loss
from . import checkpoint
from .learner import Learner
from .pictures import draw
from .run import Run

WARM_UP = 3
"""Steps of a process that its clock does not count: in them the loss is compiled and memory is found."""


class Job:
    """A learner with its data and its folder."""

    def __init__(
        self,
        learner: Learner,
        data: Data,
        folder: Run | None,
        config: dict[str, Any],
        checkpoint_every: int,
        keep: int,
        sample_every: int,
    ) -> None:
        self.learner, self.data, self.folder, self.config = learner, data, folder, config
        self.checkpoint_every, self.keep, self.sample_every = checkpoint_every, keep, sample_every
        self.seconds = 0.0
        self.saved = 0
        self.here = 0
        self.is_main = learner.accelerator.is_main_process

    def batches(self) -> Iterator[Batch]:
        """The batches from the next step on; where the method reads no data, of nothing with the data's shape."""
        data = nothing(self.data.shape, self.data.classes) if self.learner.method.data_free else self.data
        return data.batches(self.learner.plan.batch_size, self.learner.plan.seed, self.learner.step)

    @property
    def progress(self) -> float:
        return self.learner.plan.progress(self.learner.step, self.seconds)

    @property
    def kept(self) -> str:
        """What an error says about the last checkpoint."""
        return f"; the checkpoint of step {self.saved} is kept" if self.saved else ""

    def begin(self) -> None:
        """Make the run folder; called after the first step, so that arguments that fail there leave nothing behind."""
        if self.folder is not None and self.is_main and not self.folder.config.exists():
            self.folder.begin(self.config)

    def restore(self) -> None:
        """Go on from the newest whole checkpoint; from the start where there is none."""
        assert self.folder is not None
        found = checkpoint.latest(self.folder.checkpoints)
        if found is not None:
            path, state = found
            self.learner.restore(path, state)
            self.seconds, self.saved = state["seconds"], state["step"]
        if self.is_main:
            self.folder.forget_after(self.learner.step)

    def advance(self, batches: Iterator[Batch]) -> Loss:
        """One step, timed."""
        start = time.perf_counter()
        batch = next(batches)
        rows = slice(self.learner.accelerator.process_index, None, self.learner.accelerator.num_processes)
        loss = self.learner.advance(batch.rows(rows), self.progress)
        self.here += 1
        if self.here > WARM_UP:
            self.seconds += time.perf_counter() - start
        return loss

    def keep_up(self, last: bool) -> None:
        """Write the checkpoint and the picture that are due."""
        step = self.learner.step
        if last or step % self.checkpoint_every == 0:
            self.save()
        if self.folder is not None and self.is_main and self.sample_every and (last or step % self.sample_every == 0):
            picture = self.folder.samples / f"step_{step:08d}.png"
            draw(picture, self.learner.average.flow, self.learner.method, self.data, self.learner.plan.labels)

    def save(self) -> None:
        """Write a checkpoint, unless this step has one. Raises FloatingPointError for weights that are not finite, and
        writes nothing.
        """
        step = self.learner.step
        if self.folder is None or not self.is_main or step == self.saved:
            return
        if not self.learner.is_finite():
            raise FloatingPointError(
                f"after step {step} there are weights that are not finite, though the loss was: its gradient is not"
            )
        state = {"seconds": self.seconds, **self.learner.state()}
        optimizers = self.learner.optimizers.state_dicts()
        checkpoint.write(self.folder.checkpoints, step, self.learner.models(), optimizers, state, self.keep)
        self.saved = step
