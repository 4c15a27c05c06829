"""Upload exported folders to the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .files import MARK


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
    """Upload an exported folder to the Hugging Face hub, if it loads.

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
        ValueError: For a folder that does not load, and a name without an owner.
        PermissionError: If there is no token or the hub refuses it.
        FileExistsError: For an existing repository without `update`.
        ConnectionError: If the hub cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ImportError:
        raise ImportError("push_to_hub needs huggingface_hub: pip install flowmaps[diffusers]") from None
    check_name(name)
    check(folder)
    api = huggingface_hub.HfApi(endpoint=endpoint, token=token, library_name="flowmaps")
    try:
        if token is None and huggingface_hub.get_token() is None:
            raise LocalTokenNotFoundError
        url = str(api.create_repo(name, private=private, exist_ok=update))
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message, ignore_patterns=[".*"])
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


def check(folder: str | Path) -> None:
    """Load an exported folder as its users do, which reads all its files.

    Raises:
        FileNotFoundError: For a folder that is no export.
        ValueError: If it does not load.
    """
    folder = Path(folder)
    if not (folder / MARK).is_file():
        raise FileNotFoundError(f"{folder} is no export of flowmaps: it has no {MARK}")
    kind = json.loads((folder / MARK).read_text(encoding="utf-8"))["kind"]
    try:
        {"pipeline": _load_pipeline, "adapter": _load_adapter}[kind](folder)
    except Exception as error:
        raise ValueError(f"{folder} does not load, so nothing was sent: {error}") from error


def check_name(name: str) -> None:
    """Check the name of a repository.

    Raises:
        ValueError: Unless it has the form OWNER/NAME.
    """
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest or any(c.isspace() for c in name):
        raise ValueError(f"the name of a model on the hub is OWNER/NAME, got {name!r}")


def _load_pipeline(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, local_files_only=True)


def _load_adapter(folder: Path) -> Any:
    from ..files import load_tensors

    return [load_tensors(path) for path in (folder / "pytorch_lora_weights.safetensors",)]


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
