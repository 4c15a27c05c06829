"""Methods and rewards of your own at the command line, MODULE:NAME. A person's own words get here, never a file's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..arguments import did_you_mean
from ..method.method import Method
from ..recipes.rows import MethodLike
from ..steering.reward import Rewards


def method_named(text: str) -> MethodLike:
    """The method of a word of the command line.

    Args:
        text: The name of a method of the library, or MODULE:NAME, a function or a `Method` of a module in this folder
            or among the installed packages.

    Returns:
        The name, or the function or `Method`, whose module is imported.

    Raises:
        ValueError: There is no such module, it cannot be imported, or it has no such function.
    """
    module, colon, name = text.partition(":")
    if not colon:
        return text
    home = imported(module, text)
    found = getattr(home, name, None)
    if isinstance(found, Method) or callable(found):
        return found
    known = [
        key
        for key, value in vars(home).items()
        if key[0] != "_" and (isinstance(value, Method) or _is_own(value, module))
    ]
    raise ValueError(
        f"the module {module} has no function or Method {name!r}{did_you_mean(name, known)}; {_has(known)}"
    )


def reward_named(text: str) -> str | Rewards:
    """The reward of a word of the command line.

    Args:
        text: label:CLASS, or MODULE:NAME, a function of a module in this folder or among the installed packages.

    Returns:
        The text of a class, or the function, whose module is imported.

    Raises:
        ValueError: There is no such module, it cannot be imported, or it has no such function.
    """
    from ..experiments.rewards_from_text import LABEL

    module, colon, name = text.partition(":")
    if not colon or text.startswith(LABEL):
        return text
    home = imported(module, text, "a reward")
    found = getattr(home, name, None)
    if callable(found) and not isinstance(found, type):
        return found
    known = [key for key, value in vars(home).items() if key[0] != "_" and callable(value) and _is_own(value, module)]
    raise ValueError(f"the module {module} has no function {name!r}{did_you_mean(name, known)}; {_has(known)}")


def methods_named(text: str | Sequence[str]) -> list[MethodLike]:
    """The methods of a list of words, separated by commas."""
    words = text.split(",") if isinstance(text, str) else text
    return [method_named(word.strip()) for word in words if word.strip()]


def imported(module: str, text: str, kind: str = "a method") -> types.ModuleType:
    """Import a module of this folder or of an installed package.

    This folder is the last place to look, so that a file in it cannot take the place of a library.

    Args:
        module: Its name, as in an import.
        text: The word of the command line, for messages.
        kind: Its meaning, for messages.

    Returns:
        The module.

    Raises:
        ValueError: There is no such module, or it cannot be imported.
    """
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        likely = Path(module).stem if module.endswith(".py") else "my_module"
        raise ValueError(f"{kind} of your own is MODULE:NAME, such as {likely}:steady, got {text!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"the module {module} needs {error.name}, which is not installed") from error
        files = [path.stem for path in Path.cwd().glob("*.py")]
        raise ValueError(
            f"there is no module {module} in {here} or among the installed packages{did_you_mean(module, files)}"
        ) from None
    except Exception as error:
        raise ValueError(f"the module {module} cannot be imported, {type(error).__name__}: {error}") from error


def _is_own(value: Any, module: str) -> bool:
    """Whether an entry of a module was defined in it."""
    return getattr(value, "__module__", "") == module


def _has(known: Sequence[str]) -> str:
    """The end of a message about a module: its functions."""
    return f"it has {', '.join(known)}" if known else "it has no functions"
