"""Checkpoints written in the background during training."""

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

LEAVING = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""Exceptions that end a loop without a failure."""


class Saving:
    """Write one snapshot at a time in a background thread (context manager).

    Leaving the context waits for a running write. An error of a write is raised by the next `start` or `finish`, or at
    the end of the context; if another exception leaves the context, the error becomes a note of that exception.
    Processes with sharded tensors communicate about a write in a separate process group, not in the one of the
    gradients.

    Args:
        folder: The folder of the checkpoints.
        keep: Number of checkpoints to keep.
        timeout: Seconds that processes that write a checkpoint together wait for one another.
    """

    def __init__(self, folder: Path, keep: int, timeout: float) -> None:
        self.folder, self.keep, self.timeout = folder, keep, timedelta(seconds=timeout)
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._running: Future[Path] | None = None
        self._group: Any = None

    def is_joint(self, models: Mapping[str, Mapping[str, Tensor]]) -> bool:
        """Whether all processes write a checkpoint together, because models are sharded; all of them call it.

        Args:
            models: The state dict of each model, by name.

        Returns:
            Whether some tensor is sharded.

        Raises:
            ImportError: If this version of torch cannot write shards.
        """
        joint = any(is_sharded(tensor) for part in models.values() for tensor in part.values())
        if joint and self._group is None:
            storage()
            self._group = dist.new_group(backend="gloo", timeout=self.timeout)
        return joint

    def agreed(self, check: Callable[[], bool]) -> bool:
        """Whether a check is true on all processes that write together."""
        return all(run_on_all(check, self._group))

    def start(self, taken: Snapshot) -> None:
        """Start to write a snapshot, after the end of the previous write.

        Args:
            taken: The snapshot.

        Raises:
            OSError: If the previous write failed.
        """
        self.finish()
        self._running = self._thread.submit(write, self.folder, taken, self.keep, self._group)

    def finish(self) -> None:
        """Wait for a running write.

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
