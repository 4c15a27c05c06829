"""Files: atomic writes, checksums, safetensors, and nested values split into JSON and tensors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

PICKLES = (b"\x80", b"PK\x03\x04")
"""First bytes of a pickle, and of the archive in which `torch.save` stores one."""
LARGEST_JSON = 64 * 2**20
"""Largest size of a JSON document in bytes."""
DEEPEST_JSON = 100
"""Largest number of lists and objects inside one another in a JSON document."""
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Error numbers of a full disk, of a file above the limit, and of a quota that is used up."""
LOCK = ".lock"
"""Name of the file that locks a folder for one process, see `runs.lock`."""
LEFTOVER = re.compile(r"\.(?P<name>.+?)(\.(?P<process>\d+)(-[0-9a-f]{8})?)?(\.gone)?\.tmp(\.\w+)?")
"""Temporary names of this version (`temporary_name`) and of earlier ones, around the name of the file."""
SAMPLES_OF_A_WEIGHT = 64
"""Number of evenly spaced entries of each weight in `weights_checksum`."""


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically, as `replacing` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path, text: str) -> None:
    """Append text to a file.

    Args:
        path: The file, created if it is missing.
        text: The text.

    Raises:
        OSError: If it cannot be written; the message names the file, which keeps its old content.
    """
    missing, rest = not path.exists(), text.encode()
    try:
        with path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        if missing:
            path.unlink(missing_ok=True)
        raise not_written(path, error) from error


def read_json(path: Path, most: int = LARGEST_JSON) -> Any:
    """Read a JSON document of limited size and depth.

    Args:
        path: The file.
        most: Largest size in bytes.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file, no JSON, too large or too deep; the message names the file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} cannot be read: it is not a regular file")
    with path.open("rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"{path} cannot be read: a JSON file of at most {most} bytes is expected, and it is larger")
    try:
        return parse_json(text.decode())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def parse_json(text: str) -> Any:
    """Parse a JSON document of limited depth.

    Args:
        text: The document.

    Returns:
        Its content.

    Raises:
        ValueError: If it is no JSON, or deeper than `DEEPEST_JSON`.
    """
    too_deep = f"it holds more than {DEEPEST_JSON} lists and objects inside one another"
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [found]
    for _ in range(DEEPEST_JSON):
        level = [item for part in level for item in _inside(part)]
        if not level:
            return found
    raise ValueError(too_deep)


def _inside(value: Any) -> Iterable[Any]:
    """Lists and objects directly in a JSON value."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, (dict, list))]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Replace a file atomically (context manager): a reader sees the old file or the new one.

    The yielded temporary file is flushed to disk and then renamed. A link is replaced, never written through. Devices
    and pipes cannot be replaced and are written in place.

    Args:
        path: The file. Missing parent folders are created.

    Yields:
        A temporary file with the same ending, to which the new content is written.

    Raises:
        OSError: If the file cannot be written; the message names it. The old file is kept.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside a path, with the same ending, that no other process or thread uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove the temporary files and folders of writes that were killed.

    Only the process that writes these files may call it, because another one could be writing them now. Files of other
    processes that are alive on this machine are left.

    Args:
        folder: The folder; nothing happens if it does not exist.
        *names: Patterns of the names of the files, such as "step_*".
    """
    for path in folder.glob(".*.tmp*"):
        found = LEFTOVER.fullmatch(path.name)
        if found and is_leftover(path, *names) and not _is_of_another(found["process"]):
            delete(path)


def _is_of_another(process: str | None) -> bool:
    """Whether a process number belongs to another process, alive on this machine."""
    if process is None or int(process) == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def is_leftover(path: Path, *names: str) -> bool:
    """Whether a file or folder is a temporary one of a write to a file with one of these names, which may be patterns.

    Only the process that writes these files knows that the write is not in progress.
    """
    found = LEFTOVER.fullmatch(path.name)
    return found is not None and any(fnmatchcase(found["name"], name) for name in names)


def not_written(path: Path, error: Exception) -> OSError:
    """Convert an error of a write into one whose message names the file; its class and number stay the same.

    Args:
        path: The file or folder that was to be written.
        error: The error.

    Returns:
        The error to raise.
    """
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or error
    kept = "the old content is kept" if os.path.lexists(path) else "nothing of it is kept"
    advice = f" ({free_space(path.parent) / 1e6:.1f} MB are free). Free some space, then try again"
    full = number is None or number in FULL
    found = type(OSError(number, ""))(f"{path} could not be written: {reason}; {kept}{advice if full else ''}")
    found.errno = number
    return found


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, or of the nearest folder above that exists."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk; folders only on POSIX systems."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder after renaming it to a temporary name, so that a partly removed folder never has its name.

    Of a link, the link alone is removed. Files that another machine still reads are left under the temporary name.
    """
    gone = temporary_name(path)
    path.rename(gone)
    with suppress(OSError):
        delete(gone)


def delete(path: Path) -> None:
    """Delete a file or a folder, if it exists; of a link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_tensor(digest: Any, tensor: Tensor) -> None:
    """Add dtype, shape and all bytes of a tensor to a digest of hashlib."""
    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def json_checksum(content: Any) -> str:
    """Compute the SHA-256 of a JSON value, in hexadecimal. Line breaks and the order of keys do not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a JSON object the entry "checksum", with the checksum of its other entries."""
    plain = json.loads(json.dumps(content))
    return {**plain, "checksum": json_checksum(plain)}


def unsealed(content: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Take the checksum out of a JSON object, the inverse of `sealed`.

    Args:
        content: The object.

    Returns:
        The other entries, and whether they are the ones that were written; True for an object without a checksum.
    """
    plain = {name: value for name, value in content.items() if name != "checksum"}
    return plain, content.get("checksum", None) in (None, json_checksum(plain))


def weights_checksum(weights: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 over names, shapes and SAMPLES_OF_A_WEIGHT numbers of each weight.

    Training changes almost all numbers, so these identify the weights. The dtype is not included, so weights in half
    precision have the checksum of the same weights in float32.

    Args:
        weights: Tensors by name.

    Returns:
        The checksum in hexadecimal; "" for tensors without memory.
    """
    if any(isinstance(weight, FakeTensor) or weight.is_meta for weight in weights.values()):
        return ""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        flat = weight.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // SAMPLES_OF_A_WEIGHT)].to("cpu", torch.float64)
        digest.update(f"{name} {tuple(weight.shape)} {some.tolist()}".encode())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous CPU tensors that share no memory as safetensors.

    Args:
        path: The file.
        tensors: Tensors by name.
        metadata: Texts by name, stored in the header.

    Raises:
        OSError: If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        about = (int(number[1]), os.strerror(int(number[1])), str(path)) if number else (f"{path}: {error}",)
        raise OSError(*about) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, the inverse of `save_tensors`. Pickles are never loaded.

    Raises:
        ValueError: If the file is of another kind.
    """
    with opened_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors in a safetensors file by name, from its header alone.

    Raises:
        ValueError: If the file is of another kind.
    """
    with opened_tensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)


@contextmanager
def opened_tensors(
    path: Path, advice: str = "restore the file that training wrote, or remove this checkpoint"
) -> Iterator[Any]:
    """Open a safetensors file (context manager). A header that claims other bytes than the file has is refused.

    Args:
        path: The file.
        advice: End of the error message for a file of another kind.

    Yields:
        The open file of safetensors, whose tensors are memory-mapped.

    Raises:
        ValueError: If the file is of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        with path.open("rb") as start:
            pickled = start.read(4).startswith(PICKLES)
        kind = "a pickle, which may hold code; it was not opened" if pickled else f"not a safetensors file ({error})"
        raise ValueError(f"{path} is {kind}: {advice}") from None


def split(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Split a nested value into a JSON-able skeleton and its tensors.

    Args:
        value: Nested dicts, lists, tuples, numbers, strings and tensors.
        tensors: Dict to which the tensors are added, with numbers as names.

    Returns:
        The skeleton.

    Raises:
        TypeError: If the value contains anything else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [split(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[split(key, tensors), split(item, tensors)] for key, item in value.items()]}
    raise TypeError(
        f"an optimizer's state may hold numbers, strings, tensors, lists, tuples and dicts, not {type(value).__name__}"
    )


def join(skeleton: Any, tensors: Mapping[str, Any]) -> Any:
    """Rebuild a nested value, the inverse of `split`.

    Args:
        skeleton: The skeleton.
        tensors: The tensors by name, or objects that replace them.

    Returns:
        The nested value.
    """
    if not isinstance(skeleton, dict):
        return skeleton
    [(kind, content)] = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {join(key, tensors): join(item, tensors) for key, item in content}
    items = [join(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
