"""A child process that answers one request a line, so that its steps run in turns with the ones of this process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any


class Child:
    """A process that prints one line of JSON when it is ready, and one for each line of its standard input.

    Args:
        command: The command.
        environment: Variables beside the ones of this process.

    Attributes:
        said: The first answer.

    Raises:
        RuntimeError: If the process ends without an answer.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env={**os.environ, **environment}, **pipes)
        self.said = self._answer()

    def ask(self, request: str) -> Any:
        """Ask for an answer."""
        self.process.stdin.write(f"{request}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the child process ended without an answer; its message is above")
        return json.loads(line)
