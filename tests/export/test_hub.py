"""Uploads to a hub of one's own."""

import socket
import sys
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps import export

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("diffusers")
sys.path.insert(0, str(Path(__file__).parent))
from hub import READER, WRITER, Hub  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1, embedding=8))
    return export.to_diffusers(flow, tmp_path_factory.mktemp("exported") / "points")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No account of this machine, no other server, no transfer by another protocol."""
    import diffusers.utils.dynamic_modules_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name, value in {
        "HF_HUB_DISABLE_XET": True, "HF_HUB_OFFLINE": False, "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_STORED_TOKENS_PATH": str(tmp_path / "tokens"),
    }.items():  # fmt: skip
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub():
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_uploaded_is_the_folder(folder, hub):
    url = export.push_to_hub(folder, "me/points", token=WRITER, endpoint=hub.address)
    assert url == f"{hub.address}/me/points" and hub.private["me/points"]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert hub.repositories["me/points"] == files and "network/diffusion_pytorch_model.safetensors" in files


def test_a_name_that_is_taken_is_written_to_only_when_asked(folder, hub):
    hub.repositories["me/points"] = {"theirs.txt": b"kept"}
    with pytest.raises(FileExistsError, match="me/points already exists: choose another name, or pass update=True"):
        export.push_to_hub(folder, "me/points", token=WRITER, endpoint=hub.address)
    assert hub.repositories["me/points"] == {"theirs.txt": b"kept"}
    export.push_to_hub(folder, "me/points", token=WRITER, endpoint=hub.address, update=True)
    assert {"theirs.txt", "model_index.json"} <= hub.repositories["me/points"].keys()


@pytest.mark.parametrize(
    ("name", "token", "said"),
    [
        ("me/points", None, "needs a token with write access: run `hf auth login`, set HF_TOKEN, or pass token="),
        ("me/points", "hf_unknown", "does not know this token"),
        ("me/points", READER, "may not write me/points"),
        ("them/points", WRITER, "may not write them/points"),
    ],
)
def test_tokens_that_may_not_write_are_refused(folder, hub, name, token, said):
    with pytest.raises(PermissionError, match=said):
        export.push_to_hub(folder, name, token=token, endpoint=hub.address)
    assert not hub.repositories


def test_nothing_is_sent_of_a_folder_that_does_not_load(folder, hub, tmp_path):
    with pytest.raises(FileNotFoundError, match="no export of flowmaps: it has no flow_map.json"):
        export.push_to_hub(tmp_path, "me/points", token=WRITER, endpoint=hub.address)
    broken = tmp_path / "broken"
    for path in folder.rglob("*"):
        if path.is_file():
            (broken / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (broken / path.relative_to(folder)).write_bytes(path.read_bytes())
    weights = broken / "network" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(
        ValueError, match="safetensors has changed since the export, so nothing was sent: export the run again"
    ):
        export.push_to_hub(broken, "me/points", token=WRITER, endpoint=hub.address)
    assert not hub.asked


def test_a_hub_that_is_not_there(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConnectionError, match="cannot be reached"):
        export.push_to_hub(folder, "me/points", token=WRITER, endpoint=address)


@pytest.mark.parametrize("name", ["points", "a/b/c", "/points", "me/two words"])
def test_names_have_an_owner(folder, name):
    with pytest.raises(ValueError, match="is OWNER/NAME, got"):
        export.push_to_hub(folder, name)
