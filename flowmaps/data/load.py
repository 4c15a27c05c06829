"""`load`: one name or path, one data set."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .core import Data
from .digits import digits
from .toys import checkerboard, eight_gaussians, gaussian, mixture, spirals, two_moons

NAMES: dict[str, Callable[..., Data]] = {
    function.__name__: function
    for function in (checkerboard, eight_gaussians, two_moons, spirals, gaussian, mixture, digits)
}
HUB = "hf:"


def load(name_or_path: str | Path, **options: Any) -> Data:
    """A data set by name or path:

    - a name: checkerboard, eight_gaussians, two_moons, spirals, gaussian, mixture, digits (write "./digits" for a
      folder called so);
    - a folder of images, with class folders or flat (`image_folder`), or one of encoded rows (`cache.cache_folder`);
    - a .npy, .npz or .safetensors file (`array_file`);
    - "hf:NAME" for a Hugging Face data set, or a folder written by its `save_to_disk` (`hugging_face`).

    The options are those of the function that reads it. Raises ValueError for an unknown name, with the closest ones,
    FileNotFoundError for a path that is not there, TypeError for an option that the data set does not take.
    """
    name = str(name_or_path)
    read, paths = _reader(name)
    takes = [
        key for key, value in inspect.signature(read).parameters.items() if value.kind is not value.POSITIONAL_ONLY
    ]
    for option in options:
        if option not in takes:
            raise TypeError(
                f'{name} takes no option "{option}"{_closest(option, takes)}; it takes {", ".join(takes) or "none"}'
            )
    where = name if name.startswith(HUB) else next(iter(paths), name)
    return replace(read(*paths, **options), recipe={"name_or_path": where, **options})


def _reader(name: str) -> tuple[Callable[..., Data], tuple[str, ...]]:
    """The function that reads `name`, and the path it takes: () for a built-in data set."""
    if name in NAMES:
        return NAMES[name], ()
    if name.startswith(HUB):
        from .hugging_face import hugging_face

        return hugging_face, (name.removeprefix(HUB),)
    path = Path(name).expanduser()
    if not path.exists():
        raise _missing(name)
    if path.is_dir():
        from .cache import cache_folder, is_cache
        from .folder import image_folder
        from .hugging_face import hugging_face, is_saved

        read = cache_folder if is_cache(path) else hugging_face if is_saved(path) else image_folder
        return read, (str(path.resolve()),)
    if path.suffix in (".npy", ".npz", ".safetensors"):
        from .arrays import array_file

        return array_file, (str(path.resolve()),)
    raise ValueError(f"a data file must be .npy, .npz or .safetensors, got {name}")


def _missing(name: str) -> Exception:
    """What to raise for a name that is neither known nor there."""
    if "/" in name or "\\" in name or Path(name).suffix:
        return FileNotFoundError(f'there is no file or folder {name}; a Hugging Face data set is written "hf:NAME"')
    return ValueError(
        f'unknown data set "{name}"{_closest(name, list(NAMES))}; known are {", ".join(NAMES)}, a folder of images, '
        'a .npy, .npz or .safetensors file, "hf:NAME" for a Hugging Face data set'
    )


def _closest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
