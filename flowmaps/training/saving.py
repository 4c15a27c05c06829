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

from ..distributed.shards import is_sharded, storage, together
from ..runs.checkpoint import Snapshot, write

PATIENCE = timedelta(minutes=10)
"""How much longer than another one a process may take to write its part."""
LEAVING = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""With these a loop is left, and nothing in it failed."""


class Saving:
    """Writes one snapshot at a time in a thread of its own, while training goes on.

    A context: leaving it waits for the write that is under way. What failed there is raised by the next `start` or
    `finish`, or when the context is left; behind another error that leaves it, it becomes a note of that one.
    Processes that share the tensors speak about the writing in a group of their own, beside that of the gradients.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._running: Future[Path] | None = None
        self._group: Any = None

    def is_joint(self, models: Mapping[str, Mapping[str, Tensor]]) -> bool:
        """Whether the processes have to write together, which they do where these models are spread over them. All of
        them ask. Raises ImportError for a torch that cannot write shards.
        """
        shared = any(is_sharded(tensor) for part in models.values() for tensor in part.values())
        if shared and self._group is None:
            storage()
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        return shared

    def agreed(self, check: Callable[[], bool]) -> bool:
        """Whether something holds, on all processes that write together."""
        return all(together(check, self._group))

    def start(self, taken: Snapshot) -> None:
        """Write, as soon as the write before is done."""
        self.finish()
        self._running = self._thread.submit(write, self.folder, taken, self.keep, self._group)

    def finish(self) -> None:
        """Wait for the write that is under way. Raises OSError where it failed."""
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
