"""The folder of a pipeline: components one by one, and what is said where something is missing."""

import contextlib
import http.server
import importlib.util
import json
import shutil
import sys
import threading

import diffusers
import huggingface_hub
import pytest
import torch

from flowmaps.integrations import diffusers as bridge
from flowmaps.integrations.diffusers.folder import networks, opened
from tests.integrations import tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to break."""
    return shutil.copytree(saved, tmp_path / "copy")


def test_a_folder_and_its_loaded_pipeline_answer_alike(saved):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(saved)
    one, other = opened(saved), opened(pipeline)
    assert opened(one) is one and networks(one) == networks(other) == ["unet"]
    assert set(one.names) == set(other.names) == {"unet", "vae", "scheduler", "text_encoder", "tokenizer"}
    assert "StableDiffusionPipeline" in one.class_names and "StableDiffusionPipeline" in other.class_names
    for name in ("unet", "scheduler", "vae"):
        assert one.class_name(name) == other.class_name(name)
        theirs = other.config(name)
        assert all(theirs.get(key) == value for key, value in one.config(name).items() if not key.startswith("_"))
    assert one.setting("requires_safety_checker") is other.setting("requires_safety_checker") is False
    assert one.setting("boundary_ratio") is None and other.setting("boundary_ratio") is None
    x, time, text = torch.randn(1, 4, 8, 8), torch.tensor([10.0]), torch.randn(1, 3, 8)
    loaded = other.network("unet", None)
    assert loaded.model is pipeline.unet
    assert torch.equal(one.network("unet", None)(x, time, text=text), loaded(x, time, text=text))


def test_a_component_is_loaded_without_the_others(folder):
    for name in ("unet", "text_encoder", "tokenizer"):
        shutil.rmtree(folder / name)
    assert isinstance(opened(folder).part("vae"), diffusers.AutoencoderKL)
    assert isinstance(opened(folder).part("scheduler"), diffusers.DDIMScheduler)


def test_half_precision_and_variants(saved, tmp_path):
    whole = diffusers.UNet2DConditionModel.from_pretrained(saved, subfolder="unet")
    shutil.copytree(saved, tmp_path / "pipeline")
    shutil.rmtree(tmp_path / "pipeline" / "unet")
    whole.half().save_pretrained(tmp_path / "pipeline" / "unet", variant="fp16")
    x, time, text = torch.randn(1, 4, 8, 8), torch.tensor([10.0]), torch.randn(1, 3, 8)
    full = opened(saved).network("unet", None)(x, time, text=text)
    for dtype in (None, torch.bfloat16):
        network = opened(tmp_path / "pipeline", "fp16").network("unet", dtype)
        assert network.model.dtype == (dtype or torch.float32)
        value = network(x, time, text=text)
        assert value.dtype == x.dtype and (value - full).norm() < 0.05 * full.norm()
    with pytest.raises(
        FileNotFoundError, match=r"unet of .*pipeline cannot be loaded.*there is config.json, diffusion"
    ):
        opened(tmp_path / "pipeline").network("unet", None)
    with pytest.raises(FileNotFoundError, match=r"unet of .* \(fp16 weights\) cannot be loaded"):
        opened(saved, "fp16").network("unet", None)
    with pytest.raises(ValueError, match=r"keeps its dtype, torch.float32: call pipeline.to\(torch.bfloat16\) before"):
        opened(diffusers.DiffusionPipeline.from_pretrained(saved)).network("unet", torch.bfloat16)


# --- what is said where something is wrong ----------------------------------------------------------------------------


def test_no_pipeline(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="it has no model_index.json; it holds nothing"):
        opened(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder of one model: give the folder of its pipeline"):
        opened(saved / "unet")
    with pytest.raises(TypeError, match="expected the folder of a pipeline, .*, got a UNet2DModel"):
        opened(diffusers.UNet2DModel(block_out_channels=(32, 32, 32, 32)))
    for text, said in (
        ("{", "cannot be read: Expecting"),
        ("[]", "names no pipeline: it has no _class_name"),
    ):
        (tmp_path / "model_index.json").write_text(text)
        with pytest.raises(ValueError, match=said):
            opened(tmp_path)


def test_without_diffusers(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    spec = importlib.util.spec_from_file_location("flowmaps.integrations.without", bridge.__file__)
    with pytest.raises(ImportError, match=r"needs diffusers: pip install .\.\[diffusers\]."):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def edited(folder, **changes):
    file = folder / "model_index.json"
    index = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in index.items() if value is not None}))
    return opened(folder)


def test_components_that_are_not_there(folder):
    with pytest.raises(ValueError, match="has no component 'transformer'; it has .*unet"):
        opened(folder).part("transformer")
    with pytest.raises(
        ValueError, match=r"has no network: none of its components \(.*vae.*\) is a unet or a transformer"
    ):
        networks(edited(folder, unet=None))


def test_classes_that_are_not_known(folder):
    with pytest.raises(
        ValueError, match="is a UNet9DModel of 'diffusers', which flowmaps neither loads .*known are UN"
    ):
        edited(folder, unet=["diffusers", "UNet9DModel"]).network("unet", None)
    with pytest.raises(ValueError, match="is a MyUNet of 'my_unet', which flowmaps neither .*: load the pipeline"):
        edited(folder, unet=["my_unet", "MyUNet"]).network("unet", None)
    with pytest.raises(
        ValueError, match="cannot call the class 'AutoencoderKL' of diffusers; known classes are UNet2D"
    ):
        opened(folder).network("vae", None)


def test_files_that_are_missing_or_do_not_fit(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:1000])
    with pytest.raises(OSError, match=r"unet of .*copy cannot be loaded: .*diffusion_pytorch_model.safetensors"):
        opened(folder).network("unet", None)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"unet of .*copy cannot be loaded: .*no file named"):
        opened(folder).network("unet", None)
    weights.write_bytes(kept)
    config = json.loads((folder / "unet" / "config.json").read_text())
    for change, said in (
        ({"addition_embed_type": "text"}, "do not fit a UNet2DConditionModel of this config: add_embedding"),
        ({"block_out_channels": [8, 32]}, r"expected shape torch.Size\(\[.*\]\), but got torch.Size\("),
    ):
        (folder / "unet" / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(OSError, match=rf"unet of .*copy cannot be loaded: .*{said}"):
            opened(folder).network("unet", None)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"unet of .*copy cannot be loaded: .*config.json"):
        opened(folder).network("unet", None)
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(FileNotFoundError, match="text_encoder .*cannot be loaded"):
        opened(folder).only("text_encoder", "tokenizer")


def test_a_model_that_takes_an_image_beside(folder):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.unet = diffusers.UNet2DConditionModel.from_config(pipeline.unet.config, in_channels=9)
    with pytest.raises(ValueError, match=r"predicts 4 channels from 9: it needs an image beside .* \(inpainting"):
        opened(pipeline).network("unet", None)


# --- the hub, played by a server here ---------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """A gated repository, one that is not there, one without a pipeline, one that needs a login."""

    CODES = {"gated": (403, "GatedRepo"), "absent": (404, "RepoNotFound"), "empty": (404, "EntryNotFound")}

    def do_HEAD(self):
        kind = next((kind for kind in self.CODES if kind in self.path), None)
        status, code = self.CODES[kind]
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def hub(monkeypatch, tmp_path, endpoint):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    yield


def test_the_hub_says_no(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with hub(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}"):
            with pytest.raises(
                PermissionError, match="some/gated is gated .* accept its terms at .*some/gated, log in by"
            ):
                opened("some/gated")
            with pytest.raises(FileNotFoundError, match="some/absent is neither a folder here nor a repository"):
                opened("some/absent")
            with pytest.raises(FileNotFoundError, match="model_index.json of some/empty cannot be loaded"):
                opened("some/empty")
    finally:
        server.shutdown()


def test_what_is_no_name_at_all():
    with pytest.raises(FileNotFoundError, match="/no/such/folder/at all is neither a folder here nor a repository"):
        opened("/no/such/folder/at all")


def test_the_hub_cannot_be_reached(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with hub(monkeypatch, tmp_path, "http://127.0.0.1:9"):
        with pytest.raises(
            ConnectionError, match="the Hugging Face hub cannot be reached, and model_index.json of some/name"
        ):
            opened("some/name")
