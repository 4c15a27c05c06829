"""Errors at the command line: each becomes one sentence and an exit code."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import sys
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

FAILED, WRONG_INPUT, CLOSED = 1, 2, 141
"""Exit codes: the work failed; the input is wrong; the reader of the output has closed it, as for SIGPIPE."""

PACKAGE = Path(__file__).parents[1]
LONGEST = 600
"""Largest number of characters of a text of another library."""
OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
SMALLER = {
    "n": "fewer samples `n`",
    "particles": "fewer `particles` of steered samples",
    "batch_size": "a smaller `batch_size`",
    "accumulate": "a larger `accumulate`",
    "width": "a smaller `width`",
    "checkpoint": "`checkpoint`",
    "precision": "`precision=bf16`",
    "shard": "`shard` over several processes",
}
"""Ways to need less memory, by the option that a command must have."""


def explained(error: Exception, options: Any = None) -> tuple[int, str]:
    """Explain an error to a person.

    Args:
        error: The error.
        options: The options of the command; None if they could not be read.

    Returns:
        The exit code, and a sentence in which arguments are in backticks.
    """
    for kinds, code, say in KNOWN:
        if isinstance(error, kinds) and (text := say(error, options)):
            return code, text
    text = ": ".join(filter(None, (f"unexpected {type(error).__name__}", one_line(error)))).removesuffix(".")
    return FAILED, (
        f"{text}. This is a fault of flowmaps, of a library, or of a file that it read; run the command again with "
        "--debug to see where"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory is exhausted; torch says so by a RuntimeError or a subclass of it."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)


def is_deliberate(error: BaseException) -> bool:
    """Whether a `raise` of this package has made the error, so that its text is a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not Path(frames[-1].filename).is_relative_to(PACKAGE):
        return False
    line = frames[-1].line or "raise"  # a program without source files
    return line.strip().startswith("raise")


def is_closed(stream: TextIO) -> bool:
    """Whether the reader of a stream has closed it; the stream then leads nowhere, because Python flushes it again."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(number, 0)
        if not any(event & select.POLLERR for _, event in poll.poll(0)):
            return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True


OPTIONAL = r"no type matching .* could be instantiated from .* Got errors: .*'None',\) - (<class '\w+'>|tuple\[.*\]): "
"""Words of the parser about an option that may be None, before the reason."""


def out_of_box(text: str) -> str:
    """The sentence of the parser, without its title, its lines and the help of the option.

    The parser draws a box with the title in its border; a terminal without such characters gets a title, a rule and the
    sentence.
    """
    lines = [line.strip("│ ") for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    parts = re.split(r"^[─-]+$", "\n".join(lines), flags=re.M)
    sentence = " ".join(parts[0 if "╭" in text else 1].split()).removesuffix("(required)").rstrip(" .")
    return re.sub(r"\[/?bold\]", "", re.sub(OPTIONAL, "", sentence))


def say_error(text: str) -> None:
    """Print a line on standard error, if anyone reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        is_closed(sys.stderr)


def once(say: Callable[[str], object]) -> Callable[..., None]:
    """A function for `warnings.showwarning` that says each text once, from whichever line it comes."""
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            say(str(message))

    return show


def one_line(error: BaseException) -> str:
    """The text of an error on one line, cut to `LONGEST` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _memory(error: Exception, options: Any) -> str:
    """Say that memory is exhausted, and the options of the command that need less."""
    if not is_out_of_memory(error):
        return ""
    known = [way for name, way in SMALLER.items() if hasattr(options, name)]
    advice = f": try {', '.join(known)}" if known else ": close other programs, or use a machine with more memory"
    where = "the GPU is" if "CUDA" in str(error) else "the machine is"
    reason = one_line(error).partition(". ")[0]
    return f"{where} out of memory{advice}{f' ({reason})' if reason else ''}"


def _own(error: Exception, options: Any) -> str:
    """The text of a deliberate error."""
    return str(error) if is_deliberate(error) else ""


def _text(error: Exception, options: Any) -> str:
    """The text of any error."""
    return str(error)


def _system(error: Exception, options: Any) -> str:
    """An error of the system, with its file."""
    assert isinstance(error, OSError)
    if error.errno is None or error.strerror is None:
        return one_line(error)
    reason = error.strerror[:1].lower() + error.strerror[1:]
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    if not files:
        return f"the system reports an error: {reason}"
    advice = ": free space, or choose another disk" if error.errno == errno.ENOSPC else ""
    return f"{' and '.join(files)} cannot be used, {reason}{advice}"


def _package(error: Exception, options: Any) -> str:
    """A package that is missing."""
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and missing and str(error).startswith("No module named"):
        return f"the package {missing} is not installed: pip install {missing.partition('.')[0]}"
    return one_line(error)


def _encoding(error: Exception, options: Any) -> str:
    """A text that is none."""
    assert isinstance(error, UnicodeError)
    return f"a text that should be UTF-8 is none, so its file is damaged or of another kind ({one_line(error)})"


def _damaged(error: Exception, options: Any) -> str:
    """A file that a library cannot read."""
    kind = type(error).__name__
    return f"a file is damaged or of another kind: restore it from a copy ({kind}: {one_line(error) or 'no text'})"


def _safetensors() -> tuple[type[Exception], ...]:
    """The errors of safetensors, if it is installed."""
    try:
        from safetensors import SafetensorError
    except ImportError:
        return ()
    return (SafetensorError,)


Say = Callable[[Exception, Any], str]
KNOWN: list[tuple[tuple[type[Exception], ...], int, Say]] = [
    ((MemoryError, RuntimeError), FAILED, _memory),
    ((FloatingPointError,), FAILED, _text),
    ((UnicodeError,), WRONG_INPUT, _own),
    ((UnicodeError,), WRONG_INPUT, _encoding),
    ((json.JSONDecodeError, zipfile.BadZipFile, zlib.error, EOFError, *_safetensors()), WRONG_INPUT, _damaged),
    ((ImportError,), WRONG_INPUT, _package),
    ((OSError,), WRONG_INPUT, _system),
    ((ValueError, TypeError), WRONG_INPUT, _own),
    ((RuntimeError,), FAILED, _own),
]
"""Kinds of errors with their exit code and their explanation; the first that has one counts."""
