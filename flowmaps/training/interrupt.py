"""Ctrl-C and SIGTERM while training: finish the step, keep what was learned, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from .agreement import SIGNALS, Agreement


class Interrupts:
    """Let SIGINT and SIGTERM wait for the end of a running step (context manager).

    Between steps, and at the second signal during one, they act at once: SIGINT raises KeyboardInterrupt, SIGTERM
    raises SystemExit(143). During a step (`busy`) they are noted, and `leave` raises afterwards. Several processes
    leave together, or one would wait for the others' gradients for ever: a signal is always noted, and all of them
    leave at the end of a step in which they agreed about it. Outside the main thread, and for a signal that the process
    ignores, nothing is installed. The handlers of before come back at the end.

    Args:
        agreement: Agreement of the processes about signals.
    """

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        self.together = agreement.processes.count > 1
        self.busy = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if threading.current_thread() is threading.main_thread() and signal.getsignal(number) == self._handle:
                signal.signal(number, handler)
        if kind is None and self.together and self.agreement.pending is not None:
            raise leaving(self.agreement.pending)  # it came after the last step, and there is nobody left to wait for

    def leave(self) -> None:
        """Leave if a signal came; several processes leave if they agreed about one.

        Raises:
            KeyboardInterrupt: For SIGINT.
            SystemExit: For SIGTERM, with exit code 143.
        """
        came = self.agreement.agreed if self.together else self.agreement.pending
        if came is not None:
            raise leaving(came)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, or leave."""
        if (self.busy or self.together) and self.agreement.pending is None:
            self.agreement.pending = number
        else:
            raise leaving(number)


def leaving(number: int) -> BaseException:
    """The exception for a signal: KeyboardInterrupt for SIGINT, else SystemExit with code 128 + its number."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
