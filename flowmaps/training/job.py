"""A learner with its data, its clock and its folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..data import Batch, Data
from ..data.data_free import with_zero_rows
from ..distributed.shards import run_on_all, unshard, world_group
from ..runs import checkpoint
from ..runs.folder import Run
from .learner import Learner
from .pictures import draw
from .saving import Saving

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
        self.checkpoint_every, self.sample_every = checkpoint_every, sample_every
        self.saving = Saving(folder.checkpoints, keep) if folder is not None else None
        self.seconds = 0.0
        self.saved = 0
        self.here = 0
        self.is_main = learner.accelerator.is_main_process

    def batches(self) -> Iterator[Batch]:
        """This process's rows of the batches from the next step on; where the method reads no data, of what is left
        without rows.
        """
        data = with_zero_rows(self.data) if self.learner.method.data_free else self.data
        plan = self.learner.plan
        return data.batches(plan.batch_size, plan.seed, self.learner.step, self.learner.processes.mine)

    @property
    def progress(self) -> float:
        return self.learner.plan.progress(self.learner.step, self.seconds)

    @property
    def kept(self) -> str:
        """What an error says about the last checkpoint. Waits for it to be on disk."""
        if self.folder is None:
            return ""
        try:
            self.finish()
        except OSError as error:
            return f"; {error}"
        except RuntimeError:
            pass  # the processes that wrote together do so no more
        step = checkpoint.newest(self.folder.checkpoints)
        return "" if step is None else f"; the checkpoint of step {step} is kept"

    def begin(self) -> None:
        """Make the run folder; called after the first step, so that arguments that fail there leave nothing behind."""
        if self.folder is not None and self.is_main and not self.folder.config.exists():
            self.folder.begin(self.config)

    def restore(self) -> None:
        """Go on from the newest whole checkpoint; from the start where there is none."""
        assert self.folder is not None
        checkpoints = self.folder.checkpoints
        # one process looks, so that all go on from the same one
        [found, *_] = run_on_all(lambda: checkpoint.latest(checkpoints) if self.is_main else None, world_group())
        if found is not None:
            path, state = found
            self.learner.restore(path, state)
            self.seconds, self.saved = state["seconds"], state["step"]
        if self.is_main:
            self.folder.forget_after(self.learner.step)

    def count(self, seconds: float) -> None:
        """Count a step that took so many seconds. The first steps do not count."""
        self.here += 1
        if self.here > WARM_UP:
            self.seconds += seconds

    def read(self, batches: Iterator[Batch]) -> Batch:
        """The next batch. Raises OSError where a file is gone or broken, with what to do."""
        try:
            return next(batches)
        except OSError as error:
            raise OSError(
                f"the batch of step {self.learner.step + 1} cannot be read: {error}{self.kept}. "
                "Restore the file, then go on with --resume, resume=True"
            ) from error

    def keep_up(self, last: bool) -> None:
        """Write the checkpoint and the picture that are due."""
        step = self.learner.step
        if last or step % self.checkpoint_every == 0:
            self.save()
        if last:
            self.finish()
        if self.folder is not None and self.sample_every and (last or step % self.sample_every == 0):
            flow = unshard(self.learner.average.flow)
            if self.is_main:
                picture = self.folder.samples / f"step_{step:08d}.png"
                draw(picture, flow, self.learner.method, self.data, bool(self.learner.plan.labels))

    def save(self) -> None:
        """Begin to write a checkpoint, unless this step has one. Raises FloatingPointError for weights that are not
        finite, and writes nothing; OSError where the one before could not be written.
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
                f"after step {step} there are weights that are not finite, though the loss was: its gradient is not"
            )
        state = {"seconds": self.seconds, **self.learner.state()}
        self.saving.start(checkpoint.snapshot(step, models, self.learner.optimizers.state_dicts(), state))
        self.saved = step

    def finish(self) -> None:
        """Wait until the last checkpoint is on disk. Raises OSError where it could not be written."""
        if self.saving is not None:
            self.saving.finish()
