"""Checkpoints written behind the running training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch.distributed as dist
from torch import Tensor

from ..distributed.shards import is_sharded, run_on_all, storage
from ..runs.checkpoint import Snapshot, write

PATIENCE = timedelta(minutes=10)
"""How much longer than another process one may take to write its part."""
LEAVING = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""Exceptions that leave a loop in which nothing failed."""


class Saving:
    """Write one snapshot at a time in a thread of its own, while training goes on (context manager).

    Leaving the context waits for the write that is under way. An error there is raised by the next `start` or `finish`,
    or when the context is left; if another error leaves the context, it becomes a note of that error. Processes with
    sharded tensors talk about the writing in a group of their own, beside the group of the gradients.

    Args:
        folder: The folder of the checkpoints.
        keep: Number of checkpoints to keep.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._running: Future[Path] | None = None
        self._group: Any = None

    def is_joint(self, models: Mapping[str, Mapping[str, Tensor]]) -> bool:
        """Whether the processes write together, because models are sharded; all of them ask.

        Args:
            models: The state dict of each model, by name.

        Raises:
            ImportError: If this torch cannot write shards.
        """
        shared = any(is_sharded(tensor) for part in models.values() for tensor in part.values())
        if shared and self._group is None:
            storage()
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        return shared

    def agreed(self, check: Callable[[], bool]) -> bool:
        """Whether a check holds on all processes that write together."""
        return all(run_on_all(check, self._group))

    def start(self, taken: Snapshot) -> None:
        """Write a snapshot, as soon as the write before is done.

        Raises:
            OSError: If the write before failed.
        """
        self.finish()
        self._running = self._thread.submit(write, self.folder, taken, self.keep, self._group)

    def finish(self) -> None:
        """Wait for the write that is under way.

        Raises:
            OSError: If it failed.
        """
        if self._running is not None:
            try:
                self._running.result()
            finally:
                if self._running.done():
                    self._running = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        except Exception as reason:
            if error is None or isinstance(error, LEAVING):
                raise
            error.add_note(str(reason))
        finally:
            self._thread.shutdown(wait=False)
