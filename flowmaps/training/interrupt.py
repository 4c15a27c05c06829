"""Signals during training: finish the step, write a checkpoint, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from .agreement import SIGNALS, Agreement

REQUEUE = 75
"""Exit code after SIGUSR1: a checkpoint is written, and the job should be queued again (EX_TEMPFAIL)."""


class Interrupts:
    """Defer SIGINT, SIGTERM, SIGHUP and SIGUSR1 to the end of a running step (context manager).

    Between steps, and at the second signal during one, they act immediately: SIGINT raises KeyboardInterrupt, the
    others raise SystemExit with their code, see `exception_of`. During a step (`busy`) they are recorded, and `leave`
    raises afterwards. Several processes must stop together, because otherwise one would wait forever for the gradients
    of the others: a signal is always recorded, and all processes stop at the end of a step in which they agreed about
    it.

    No handler is installed outside the main thread, for an ignored signal (as by nohup), and for SIGHUP and SIGUSR1 if
    the program has a handler of its own. The previous handlers are restored at the end.

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
                if _is_free(number):
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
            SystemExit: For the other signals, with their exit code.
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
    """Return the exception for a signal.

    Args:
        number: The signal.

    Returns:
        KeyboardInterrupt for SIGINT, else SystemExit with an exit code: REQUEUE for SIGUSR1, by which schedulers
        announce the end of the time, and 128 + number for the others (SIGTERM 143, SIGHUP 129).
    """
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return SystemExit(REQUEUE if signal.Signals(number).name == "SIGUSR1" else 128 + number)


def _is_free(number: int) -> bool:
    """Whether a handler may be installed for a signal."""
    before = signal.getsignal(number)
    if before in (signal.SIG_IGN, None):
        return False
    ours = isinstance(getattr(before, "__self__", None), Interrupts)
    return before == signal.SIG_DFL or ours or number in (signal.SIGINT, signal.SIGTERM)
