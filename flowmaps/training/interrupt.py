"""Ctrl-C and SIGTERM during training: finish the step, write a checkpoint, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from .agreement import SIGNALS, Agreement


class Interrupts:
    """Defer SIGINT and SIGTERM to the end of a running step (context manager).

    Between steps, and at the second signal during one, they act immediately: SIGINT raises KeyboardInterrupt, SIGTERM
    raises SystemExit(143). During a step (`busy`) they are recorded, and `leave` raises afterwards. Several processes
    must stop together, because otherwise one would wait forever for the gradients of the others: a signal is always
    recorded, and all processes stop at the end of a step in which they agreed about it. No handler is installed outside
    the main thread or for an ignored signal. The previous handlers are restored at the end.

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
            raise exception_of(self.agreement.pending)  # received after the last step, so no process waits

    def leave(self) -> None:
        """Stop if a signal was received; several processes stop if they agreed about one.

        Raises:
            KeyboardInterrupt: For SIGINT.
            SystemExit: For SIGTERM, with exit code 143.
        """
        received = self.agreement.agreed if self.together else self.agreement.pending
        if received is not None:
            raise exception_of(received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Record a signal, or stop immediately."""
        if (self.busy or self.together) and self.agreement.pending is None:
            self.agreement.pending = number
        else:
            raise exception_of(number)


def exception_of(number: int) -> BaseException:
    """Return the exception for a signal: KeyboardInterrupt for SIGINT, else SystemExit with code 128 + its number."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
