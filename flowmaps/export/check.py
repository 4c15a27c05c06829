"""The check of an exported folder before it is sent: it holds the files of the export, and they load.

Nothing that lies in the folder is run. Its source files must be byte for byte those that this package writes; the
package then runs its own text. All other components are loaded by the classes of diffusers and transformers.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import checksum, load_tensors, read_json
from .code import Code, read_code
from .copying import regular_file
from .files import CARD, MARK, names_of
from .stock import FAMILIES

if TYPE_CHECKING:
    from ..integrations.diffusers.component_files import Kind

ADAPTER_FILES = ("pytorch_lora_weights.safetensors", "flow_map.safetensors", "flow_map_adapter.json")
SAMPLERS = ("one_step.onnx", "one_step.pt2")


def check(folder: str | Path) -> list[str]:
    """Check the files of an exported folder against its list, and load them.

    Args:
        folder: The exported folder.

    Returns:
        The names of the files to send: all that export wrote, and the model card.

    Raises:
        FileNotFoundError: For a folder that is no export.
        ValueError: If a file was changed, is a link or is not one that export writes, and if it does not load.
    """
    folder = Path(folder)
    kind, listed = _mark(folder)
    for name, digest in listed.items():
        if checksum(regular_file(folder, name)) != digest:
            raise ValueError(f"{folder / name} has changed since the export, so nothing was sent: export the run again")
    try:
        known = {"pipeline": _load_pipeline, "adapter": _load_adapter}[kind](folder)
    except Exception as error:
        raise ValueError(f"{folder} does not load, so nothing was sent: {error}") from error
    if strange := [name for name in listed if not any(fnmatchcase(name, pattern) for pattern in known)]:
        raise ValueError(f"{folder / strange[0]} is no file that export writes, so nothing was sent: remove the folder")
    card = [CARD] if CARD in names_of(folder) and regular_file(folder, CARD) else []
    return [*listed, MARK, *card]


def left_out(folder: Path, sent: list[str]) -> list[str]:
    """List the files of a folder that are not sent."""
    return [name for name in names_of(folder) if name not in sent]


def _mark(folder: Path) -> tuple[str, dict[str, str]]:
    """Read the kind of an export, and the checksums of its files."""
    if not (folder / MARK).is_file():
        raise FileNotFoundError(f"{folder} is no export of flowmaps: it has no {MARK}")
    try:
        mark = read_json(regular_file(folder, MARK))
        if mark["format"] == 1:
            raise ValueError("it was written by an earlier version, without a list of its files: export the run again")
        kind, listed = mark["kind"], {str(name): str(digest) for name, digest in mark["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the list of files of {folder}, {MARK}, cannot be read: {error}") from None
    return kind, listed


def _load_adapter(folder: Path) -> list[str]:
    """Load an adapter, and return the names of its files."""
    load_tensors(folder / ADAPTER_FILES[0])
    return list(ADAPTER_FILES)


def _load_pipeline(folder: Path) -> list[str]:
    """Load a pipeline, and return the names of its files, some as patterns."""
    from ..integrations.diffusers.components import component

    index = read_json(folder / "model_index.json")
    parts: dict[str, Any] = {}
    names = ["model_index.json", *SAMPLERS, *(f"adapter/{name}" for name in ADAPTER_FILES)]
    for name, entry in index.items():
        if name[:1] == "_" or not isinstance(entry, list) or entry == [None, None]:
            continue
        if (file := _own(folder, name, entry)) is not None:
            parts[name], kind = _load_own(folder / name, file)
            names.append(f"{name}/{file.module}.py")
        else:
            part = component(str(folder), name, entry)
            parts[name], kind = part.load(folder / name), part.kind
        names += [f"{name}/{pattern}" for pattern in kind.names(None)]
    code = _code(folder, "", index["_class_name"], list(FAMILIES))
    settings = {key: value for key, value in index.items() if key[:1] != "_" and not isinstance(value, list)}
    absent = {key: None for key, value in index.items() if value == [None, None]}
    with _run(code) as cls:
        cls(**settings, **absent, **parts)
    return [*names, f"{code.module}.py"]


def _own(folder: Path, name: str, entry: list[Any]) -> Code | None:
    """Return the code of a component that is a class of this package; None for one of a library."""
    from ..integrations.diffusers.component_files import is_plain
    from ..integrations.diffusers.kinds import KINDS

    if not (is_plain(name) and is_plain(entry[0]) and (folder / name / f"{entry[0]}.py").is_file()):
        return None
    return _code(folder, f"{name}/", entry, list(KINDS))


def _code(folder: Path, where: str, entry: list[Any], stocks: list[str]) -> Code:
    """Return the code that an entry, [module, class], names. Raises ValueError if it is not of this package."""
    module, name = entry
    code = read_code(regular_file(folder, f"{where}{module}.py"), stocks)
    if name != code.defines:
        raise ValueError(f"model_index.json names the class {name!r} of {where}{module}.py, which has {code.defines}")
    return code


def _load_own(folder: Path, code: Code) -> tuple[Any, Kind]:
    """Load a component by the class of its code."""
    from ..integrations.diffusers.component_files import MODEL, SCHEDULER, staged
    from ..integrations.diffusers.components import loaded

    kind = SCHEDULER if code.template == "restart" else MODEL
    options: Mapping[str, Any] = {"use_safetensors": True} if kind.weights else {}
    with _run(code) as cls, staged(folder, kind) as files:
        return loaded(cls, files, kind, folder, **options), kind


@contextmanager
def _run(code: Code) -> Iterator[Any]:
    """Run code of this package as a module of its own; yields the class that it is written for."""
    with tempfile.TemporaryDirectory(prefix="flowmaps-") as temporary:
        name = code.write(Path(temporary))
        spec = importlib.util.spec_from_file_location(name, Path(temporary, f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            yield getattr(module, code.defines)
        finally:
            del sys.modules[name]
