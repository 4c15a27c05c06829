"""Load a data set by name or path."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arguments import did_you_mean, given, truth
from ..serialise import check_arguments, fits, shown_value
from .class_names import Numbering
from .core import Data
from .glyphs import glyphs
from .manifold_points import rotations, sphere, torus
from .photos import photos
from .series import series
from .sound import audio
from .standardise import is_table, standardised, warn_scale, with_units
from .text_files import text
from .toys import checkerboard, digits, eight_gaussians, gaussian, mixture, spirals, two_moons

NAMES: dict[str, Callable[..., Data]] = {
    function.__name__: function
    for function in (
        checkerboard,
        eight_gaussians,
        two_moons,
        spirals,
        gaussian,
        mixture,
        digits,
        glyphs,
        photos,
        series,
    )
}
FILES: dict[str, Callable[..., Data]] = {f"{read.__name__}:": read for read in (text, audio, sphere, torus, rotations)}
"""Readers of files and folders whose name alone does not tell what they hold, by the start of their names."""
HUB = "hf:"
MEASURED = ("array_file", "hugging_face")
"""Readers of rows that may have any scale; the rows of a `cache_folder` have the scale of their pipeline."""
ADVICE = (
    "load them with the option standardise=True (--data-args standardise=True), so that samples come back in these "
    "units, or with standardise=False to keep these numbers; latents of an autoencoder are multiplied by its scaling "
    "factor first"
)


def load(
    name_or_path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    standardise: bool | None = None,
    **options: Any,
) -> Data:
    """Load a data set by name or path.

    - a name: checkerboard, eight_gaussians, two_moons, spirals, gaussian, mixture, digits, glyphs, photos, series
      (`toys`, `glyphs`, `photos`, `series`; write "./photos" for a folder called so);
    - a folder of images, with class folders or flat (`image_folder`), or one of encoded rows (`cache.cache_folder`);
    - a .npy, .npz or .safetensors file (`array_file`), or a table of text, .csv or .tsv (`csv_files.csv_file`);
    - "text:PATH" for a text file, .txt or .gz, as rows of tokens (`text_files.text`);
    - "audio:FOLDER" for a folder of recordings (`sound.audio`);
    - "sphere:PATH" for a table of latitudes and longitudes, "torus:PATH" for one of angles, "rotations:PATH" for
      one of quaternions, .csv, .tsv, .txt or .gz (functions of these names in `manifold_points`);
    - "hf:NAME" for a Hugging Face data set, or a folder written by its `save_to_disk` (`hugging_face`).

    Args:
        name_or_path: Name, path or "hf:NAME", as above.
        class_names: Names of classes in the order of their numbers, which may be more than the data have. None: the
            numbering of the data set.
        standardise: Whether each feature is brought to mean 0 and standard deviation 1; samples of a flow map that is
            trained on the data come back in their units. None: rows (D,) of files and of Hugging Face data sets are
            standardised, sound too, and other rows that are no images cause a warning if they are far from this range.
        **options: Options of the function that makes or reads the data set.

    Returns:
        The data set, with `recipe` set.

    Raises:
        ValueError: The name is unknown, or a class of the data is none of `class_names`.
        FileNotFoundError: The path does not exist.
        TypeError: The data set has no such option.
    """
    truth(**given(standardise=standardise))
    name = str(name_or_path)
    if name in NAMES and Path(name).exists():
        warnings.warn(
            f"{name} is read as the data set of this name that comes with flowmaps, and there is a {name} here too: "
            f"write ./{name} for it",
            stacklevel=2,
        )
    read, paths = _reader(name)
    takes = [
        key for key, value in inspect.signature(read).parameters.items() if value.kind is not value.POSITIONAL_ONLY
    ]
    takes += ["standardise"] if paths else []
    for option in options:
        if option not in takes:
            raise TypeError(
                f'{name} takes no option "{option}"{did_you_mean(option, takes)}; it takes {", ".join(takes) or "none"}'
            )
    where = name if name.startswith((HUB, *FILES)) else next(iter(paths), name)
    data = read(*paths, **options)
    if standardise or (standardise is None and name not in NAMES and is_table(data)):
        data = standardised(data)
    elif standardise is False and data.units is not None:
        data = with_units(data, None)
    elif standardise is None and read.__name__ in MEASURED and data.levels is None:
        if options.get("value_range") is None:
            warn_scale(data.draw(256).x0, data.kind, data.name, ADVICE, of_file=True)
    recipe = {"name_or_path": where, **options, **(data.recipe or {}), **given(standardise=standardise)}
    data = replace(data, recipe=recipe)
    return data if class_names is None else _named(data, tuple(class_names))


def _named(data: Data, names: tuple[str, ...]) -> Data:
    """The data with these classes. Raises ValueError if a class of the data is none of them."""
    if data.classes is None:
        raise ValueError(f"class_names are for data with class labels, and {data.name} has none")
    advice = "name all classes of the data in `class_names`"
    found = Numbering("class_names", len(names), dict(enumerate(names)), advice=advice).fit(data)
    recipe = {**(data.recipe or {}), "class_names": list(names)}
    return replace(found, classes=len(names), class_names=names, recipe=recipe)


def option_names() -> list[str]:
    """The names of all options of data sets, of any kind."""
    from .arrays import array_file
    from .csv_files import csv_file
    from .folder import image_folder
    from .hugging_face import hugging_face

    readers: list[Callable[..., Data]] = [*NAMES.values(), array_file, csv_file, image_folder, hugging_face]
    readers += [*FILES.values(), load]
    found = [item for read in readers for item in inspect.signature(read).parameters.values()]
    return list(dict.fromkeys(item.name for item in found if item.default is not item.empty))


def load_again(recipe: Mapping[str, Any], where: str) -> Data:
    """Load the data set of a recipe in a file, such as the config.json of a run.

    Rows are in the units of the data: the units of a run are in its config.json.

    A data set of the hub is read from the local cache: no file makes this machine download anything.

    Args:
        recipe: The recipe, `data.recipe` of an earlier data set, as JSON.
        where: The place of the recipe, for messages.

    Returns:
        The data set.

    Raises:
        ValueError: The recipe is broken, an option has another type, or the data set cannot be made.
        FileNotFoundError: The path does not exist.
    """
    ours = ("name_or_path", "class_names", "standardise")
    options = {name: value for name, value in recipe.items() if name not in ours}
    name, class_names = recipe.get("name_or_path"), recipe.get("class_names")
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"{where} cannot be used: name_or_path must be a string, got {shown_value(name)}")
    if not fits(class_names, list[str] | None):
        raise ValueError(
            f"{where} cannot be used: class_names must be a list of strings, got {shown_value(class_names)}"
        )
    try:
        read, paths = _reader(name)
        check_arguments(read, name, options, where, given=len(paths))
        offline = {"local_files_only": True} if name.startswith(HUB) else {}
        again = load(name, class_names=class_names, standardise=False, **options | offline)
        return replace(again, recipe=dict(recipe))
    except (ImportError, OSError):
        raise
    except ValueError as error:
        raise ValueError(str(error) if where in str(error) else f"{where} cannot be used: {error}") from error
    except Exception as error:  # the options come from a file: whatever they do, it is the file that is wrong
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{where} cannot be used: {name} cannot be made with these options: {reason}") from error


def _reader(name: str) -> tuple[Callable[..., Data], tuple[str, ...]]:
    """The function that makes or reads the data set, and its positional arguments."""
    if name in NAMES:
        return NAMES[name], ()
    if name.startswith(HUB):
        from .hugging_face import hugging_face

        return hugging_face, (name.removeprefix(HUB),)
    for prefix, read in FILES.items():
        if name.startswith(prefix):
            path = Path(name.removeprefix(prefix)).expanduser()
            kind = "text file" if read is text else "folder" if read is audio else "file"
            if not (path.is_dir() if read is audio else path.is_file()):
                raise FileNotFoundError(f"there is no {kind} {path}")
            return read, (str(path.resolve()),)
    path = Path(name).expanduser()
    if not path.exists():
        raise _missing(name)
    if path.is_dir():
        from .cache import cache_folder, is_cache
        from .folder import image_folder
        from .hugging_face import hugging_face, is_saved

        read = cache_folder if is_cache(path) else hugging_face if is_saved(path) else image_folder
        return read, (str(path.resolve()),)
    if path.suffix.lower() in (".npy", ".npz", ".safetensors"):
        from .arrays import array_file

        return array_file, (str(path.resolve()),)
    if path.suffix.lower() in (".csv", ".tsv"):
        from .csv_files import csv_file

        return csv_file, (str(path.resolve()),)
    advice = f'; a text is written "text:{name}"' if path.suffix.lower() in (".txt", ".gz", "") else ""
    raise ValueError(f"a data file must be .npy, .npz, .safetensors, .csv or .tsv, got {name}{advice}")


def _missing(name: str) -> Exception:
    """The error for a name that is unknown and no path."""
    if "/" in name or "\\" in name or Path(name).suffix:
        return FileNotFoundError(f'there is no file or folder {name}; a Hugging Face data set is written "hf:NAME"')
    return ValueError(
        f'unknown data set "{name}"{did_you_mean(name, NAMES)}; known are {", ".join(NAMES)}, a folder of images, '
        'a .npy, .npz, .safetensors, .csv or .tsv file, "hf:NAME" for a Hugging Face data set'
    )
