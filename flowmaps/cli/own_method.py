"""A method of your own at the command line, MODULE:NAME. Only a person's own words get here, never a file's."""

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
    known = [key for key, value in vars(home).items() if _is_own(key, value, module)]
    has = f"it has {', '.join(known)}" if known else "it has no functions"
    raise ValueError(f"the module {module} has no function or Method {name!r}{did_you_mean(name, known)}; {has}")


def methods_named(text: str | Sequence[str]) -> list[MethodLike]:
    """The methods of a list of words, separated by commas."""
    words = text.split(",") if isinstance(text, str) else text
    return [method_named(word.strip()) for word in words if word.strip()]


def imported(module: str, text: str) -> types.ModuleType:
    """Import a module of this folder or of an installed package.

    This folder is the last place to look, so that a file in it cannot take the place of a library.

    Args:
        module: Its name, as in an import.
        text: The word of the command line, for messages.

    Returns:
        The module.

    Raises:
        ValueError: There is no such module, or it cannot be imported.
    """
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        likely = Path(module).stem if module.endswith(".py") else "my_module"
        raise ValueError(f"a method of your own is MODULE:NAME, such as {likely}:steady, got {text!r}")
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


def _is_own(key: str, value: Any, module: str) -> bool:
    """Whether an entry of a module is a public function of it, or a method."""
    return key[0] != "_" and (isinstance(value, Method) or getattr(value, "__module__", "") == module)
