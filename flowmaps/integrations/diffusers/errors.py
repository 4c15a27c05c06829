"""Errors of loading from a folder or from the hub, explained in one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import errors as hub


@contextlib.contextmanager
def explained(name: str, part: str | None = None, variant: str | None = None, *, online: bool = True) -> Iterator[None]:
    """Explain the errors of loading within this context.

    Args:
        name: The folder or hub repository.
        part: A component, or a file in it.
        variant: Variant of the weight files.
        online: Whether the hub was asked; otherwise only its local cache.

    Raises:
        PermissionError: For a gated repository.
        ConnectionError: If the hub cannot be reached.
        FileNotFoundError: For a missing folder, repository or file.
        OSError: For files that are broken or do not fit.
    """
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # the files come from somebody else: whatever a library does with them, they are wrong
        causes = list(_chain(error))
        wanted = f"{part} of {name}" if part else name
        described = f"{wanted} ({variant} weights)" if variant else wanted
        if _any(causes, hub.GatedRepoError) or _status(causes) in (401, 403):
            raise PermissionError(
                f"{name} is gated or private on the Hugging Face hub: accept its terms at "
                f"https://huggingface.co/{name}, log in by `hf auth login`, and try again"
            ) from error
        if _any(causes, hub.RepositoryNotFoundError, hub.HFValidationError):
            raise FileNotFoundError(
                f"{name} is neither a folder here nor a repository on the Hugging Face hub that you may read; check "
                "the path or the name, and log in by `hf auth login` if it is private"
            ) from error
        if not online and _any(causes, hub.LocalEntryNotFoundError):
            raise ConnectionError(
                f"{described} is not in the local cache of the Hugging Face hub, and is not downloaded unless you name "
                f"it: run `hf download {name}` once, or name it or its folder yourself (base= or --base of an export)"
            ) from error
        if _any(causes, hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError):
            raise ConnectionError(
                f"the Hugging Face hub cannot be reached, and {described} is not in the local cache: go online once, "
                "or give the path of a folder that holds the pipeline"
            ) from error
        missing = _any(causes, FileNotFoundError, hub.EntryNotFoundError) or "no file" in str(error)
        kind = FileNotFoundError if missing else OSError
        sort = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise kind(f"{described} cannot be loaded: {sort}{_first_sentence(error)}{_there(name, part)}") from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _any(causes: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes)


def _status(causes: list[BaseException]) -> int | None:
    """Return the HTTP status of the hub's answer."""
    answers = [cause.response for cause in causes if isinstance(cause, hub.HfHubHTTPError)]
    return answers[0].status_code if answers and answers[0] is not None else None


def _first_sentence(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")


def _there(name: str, part: str | None) -> str:
    """List the files of the local folder."""
    folder = Path(name, part or "")
    return f"; in {folder} there is {listed(folder)}" if folder.is_dir() else ""


def listed(folder: Path, most: int | None = None) -> str:
    """List the names in a folder, for an error message.

    Args:
        folder: The folder.
        most: Largest number of names. None: all.

    Returns:
        The sorted names, separated by commas, or "nothing".
    """
    return ", ".join(sorted(path.name for path in folder.iterdir())[:most]) or "nothing"
