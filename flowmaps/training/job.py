"""A training job: a learner with its data, its time budget and its run folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..data import Batch, Data
from ..data.data_free import with_zero_rows
from ..distributed.shards import run_on_all, unshard, world_group
from ..runs import checkpoint
from ..runs.folder import Run
from ..runs.lock import FolderLock
from .learner import Learner
from .pictures import draw
from .saving import Saving

WARM_UP = 3
"""First steps of a process, which do not count as training time: they compile the loss and allocate memory."""


class Job:
    """A learner with its data and its run folder.

    Args:
        learner: The learner.
        data: The data set.
        folder: The run folder. None: nothing is written.
        lock: The lock of the folder, on the process that writes it.
        config: The content of config.json.

    Attributes:
        seconds: Time spent on steps, without the first ones of each process.
        saved: Step of the last checkpoint.
        steps_here: Number of steps that this process has taken since it started.
        is_main: Whether this process writes the folder.
    """

    def __init__(
        self,
        learner: Learner,
        data: Data,
        folder: Run | None,
        lock: FolderLock | None,
        config: dict[str, Any],
    ) -> None:
        plan = learner.plan
        self.learner, self.data, self.folder, self.lock, self.config = learner, data, folder, lock, config
        self.saving = Saving(folder.checkpoints, plan.keep, plan.timeout) if folder is not None else None
        self.seconds = 0.0
        self.saved = 0
        self.steps_here = 0
        self.is_main = learner.accelerator.is_main_process

    def batches(self) -> Iterator[Batch]:
        """Iterate over this process's rows of the batches from the next step on; zeros if the method reads no data."""
        data = with_zero_rows(self.data) if self.learner.method.data_free else self.data
        plan = self.learner.plan
        return data.batches(plan.batch_size, plan.seed, self.learner.step, self.learner.processes.mine)

    @property
    def progress(self) -> float:
        """Share of training that is done, in [0, 1]."""
        return self.learner.plan.progress(self.learner.step, self.seconds)

    @property
    def checkpoint_note(self) -> str:
        """Note about the last checkpoint for an error message, once that checkpoint is on disk."""
        if self.folder is None:
            return ""
        try:
            self.finish()
        except OSError as error:
            return f"; {error}"
        except RuntimeError:
            pass  # a process of the group that writes the checkpoint is lost
        step = checkpoint.newest(self.folder.checkpoints)
        return "" if step is None else f"; the checkpoint of step {step} is kept"

    def begin(self) -> None:
        """Create the run folder; called after the first step, so that invalid arguments leave no folder."""
        if self.folder is not None and self.is_main and not self.folder.config.exists():
            self.folder.begin(self.config)

    def restore(self) -> None:
        """Continue from the newest valid checkpoint, or from the start if there is no checkpoint."""
        assert self.folder is not None
        checkpoints = self.folder.checkpoints
        # one process chooses, so that all continue from the same checkpoint
        [found, *_] = run_on_all(lambda: checkpoint.latest(checkpoints) if self.is_main else None, world_group())
        if found is not None:
            path, state = found
            self.learner.restore(path, state)
            self.seconds, self.saved = state["seconds"], state["step"]
        if self.is_main:
            self.folder.drop_metrics_after(self.learner.step)

    def count(self, seconds: float) -> None:
        """Add the duration of a step to the training time, except for the first steps."""
        self.steps_here += 1
        if self.steps_here > WARM_UP:
            self.seconds += seconds

    def read(self, batches: Iterator[Batch]) -> Batch:
        """Read the next batch.

        Raises:
            OSError: If a data file is missing or broken, with advice.
            ValueError: If rows are wrong, or there is no further batch, or it has no rows.
        """
        try:
            batch = next(batches, None)
        except (OSError, ValueError) as error:
            lost = isinstance(error, OSError)
            raise (OSError if lost else ValueError)(
                f"the batch of step {self.learner.step + 1} cannot be read: {error}{self.checkpoint_note}. "
                f"{'Restore the file' if lost else 'Check the data'}, then go on with --resume, resume=True"
            ) from error
        if batch is None or not len(batch.x0):
            lacks = "there is no batch for" if batch is None else "there are no rows in the batch of"
            raise ValueError(
                f"{lacks} step {self.learner.step + 1}: {self.data.name} must give batches with rows without "
                f"end{self.checkpoint_note}"
            )
        return batch

    def write_due(self, last: bool) -> None:
        """Write a checkpoint and a picture of samples, if they are due or this is the last step."""
        step, plan = self.learner.step, self.learner.plan
        if last or step % plan.checkpoint_every == 0:
            self.save()
        if last:
            self.finish()
        if self.folder is not None and plan.sample_every and (last or step % plan.sample_every == 0):
            flow = unshard(self.learner.average.flow)
            if self.is_main:
                picture = self.folder.samples / f"step_{step:08d}.png"
                draw(picture, flow, self.learner.method, self.data, bool(plan.labels))

    def save(self) -> None:
        """Start to write a checkpoint, unless this step already has one.

        Raises:
            BlockingIOError: If another process has taken over the folder; nothing is written.
            FloatingPointError: If weights are not finite; nothing is written.
            OSError: If the previous checkpoint could not be written.
        """
        step = self.learner.step
        if self.saving is None or step == self.saved:
            return
        models = self.learner.models()
        if not (self.saving.is_joint(models) or self.is_main):
            return
        self.saving.finish()
        if not self.saving.agreed(self.learner.is_finite):
            raise FloatingPointError(
                f"after step {step} there are weights that are not finite, though its loss was: its gradient is not "
                "finite"
            )
        if self.lock is not None:
            self.lock.check()
        state = {"seconds": self.seconds, **self.learner.state()}
        self.saving.start(checkpoint.snapshot(step, models, self.learner.optimizers.state_dicts(), state))
        self.saved = step

    def finish(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            OSError: If it could not be written.
        """
        if self.saving is not None:
            self.saving.finish()
