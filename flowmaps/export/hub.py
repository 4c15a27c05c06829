"""Upload exported folders to the Hugging Face hub."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ..arguments import install
from .check import check, left_out


def push_to_hub(
    folder: str | Path,
    name: str,
    *,
    private: bool = True,
    update: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    message: str = "A flow map, exported by flowmaps",
) -> str:
    """Upload the files that export wrote to the Hugging Face hub, if they are unchanged and load.

    Nothing that lies in the folder is run by the check. A warning names files that are not sent, because export did not
    write them. README.md is sent as it is.

    Args:
        folder: The exported folder.
        name: The name of the model, OWNER/NAME.
        private: Whether only the owner sees the model.
        update: Whether to write into an existing repository.
        token: Access token. None: the token of `hf auth login` or HF_TOKEN.
        endpoint: Address of the hub. None: huggingface.co.
        message: Commit message.

    Returns:
        The address of the model.

    Raises:
        FileNotFoundError: For a folder that is no export.
        ValueError: For a folder that does not load, has changed since the export or has links or code of somebody
            else's, and a name without an owner.
        PermissionError: If there is no token or the hub refuses it.
        FileExistsError: For an existing repository without `update`.
        ConnectionError: If the hub cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ImportError:
        raise ImportError(f"push_to_hub needs huggingface_hub: {install('diffusers')}") from None
    check_name(name)
    sent = check(folder)
    if others := left_out(Path(folder), sent):
        warnings.warn(f"not sent, because export did not write it: {', '.join(others)}", stacklevel=2)
    api = huggingface_hub.HfApi(endpoint=endpoint, token=token, library_name="flowmaps")
    try:
        if token is None and huggingface_hub.get_token() is None:
            raise LocalTokenNotFoundError
        url = str(api.create_repo(name, private=private, exist_ok=update))
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message, allow_patterns=sent)
    except LocalTokenNotFoundError:
        raise PermissionError(
            "the hub needs a token with write access: run `hf auth login`, set HF_TOKEN, or pass token="
        ) from None
    except HfHubHTTPError as error:
        raise _explained(error, name) from None
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "requests"):
            raise ConnectionError(f"the hub at {api.endpoint} cannot be reached: {error}") from None
        raise
    return url


def check_name(name: str) -> None:
    """Check the name of a repository.

    Raises:
        ValueError: Unless it has the form OWNER/NAME.
    """
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest or any(c.isspace() for c in name):
        raise ValueError(f"the name of a model on the hub is OWNER/NAME, got {name!r}")


def _explained(error: Any, name: str) -> Exception:
    status = getattr(error.response, "status_code", None)
    said = str(error).strip().splitlines()
    if status == 401:
        return PermissionError("the hub does not know this token: run `hf auth login` again, or pass another token=")
    if status == 403:
        return PermissionError(f"this token may not write {name}: it needs write access there")
    if status == 409:
        return FileExistsError(f"{name} already exists: choose another name, or pass update=True to write into it")
    return ConnectionError(f"the hub refused the upload of {name}: {said[-1] if said else error}")
