"""The folder of the pretrained model, which a run with LoRA reads again."""

import shutil

import pytest
import torch

import flowmaps as fm
from flowmaps.integrations import peft
from flowmaps.integrations.diffusers import teacher
from tests.integrations import tiny
from tests.security.planted import edited, pickled

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 4, "steps": 1}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a pipeline, and a run that refers to it."""
    home = tmp_path_factory.mktemp("pretrained")
    flow = peft.lora(fm.student(teacher(tiny.ddpm_unet(home / "unet"))), 2)
    method = fm.methods.lmd(teacher=peft.base_of(flow))
    for _ in fm.train(flow, method, torch.randn(8, 1, 8, 8), out=home / "run", **QUIET):
        pass
    return home


@pytest.fixture
def folder(made, tmp_path):
    """The folder of the pipeline, which is as it was after the test."""
    shutil.copytree(made / "unet", tmp_path / "kept")
    yield made / "unet"
    shutil.rmtree(made / "unet")
    shutil.move(tmp_path / "kept", made / "unet")


def test_a_pretrained_folder_that_is_gone(made, folder):
    shutil.move(folder, folder.with_name("away"))
    try:
        with pytest.raises(
            OSError, match="the pretrained model of this run cannot be loaded: .*If it has moved, pass a"
        ):
            fm.load(made / "run")
    finally:
        shutil.move(folder.with_name("away"), folder)
    assert fm.load(made / "run") is not None


def test_a_pretrained_folder_with_pickles_alone(made, folder, tmp_path):
    (folder / "unet" / WEIGHTS).unlink()
    pickled(folder / "unet" / "diffusion_pytorch_model.bin", tmp_path / "ran")
    with pytest.raises(
        FileNotFoundError, match="diffusion_pytorch_model.bin may hold code, so it is never opened: if you"
    ):
        fm.load(made / "run")
    assert not (tmp_path / "ran").exists()


def test_a_pretrained_config_that_names_code_to_load(made, folder):
    edited(folder / "unet" / "config.json", quantization_config={"quant_method": "evil"})
    with pytest.raises(
        OSError, match="config.json has 'quantization_config', by which a loader fetches code, other files"
    ):
        fm.load(made / "run")


def test_pretrained_weights_that_are_damaged(made, folder):
    weights = folder / "unet" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(OSError, match=f"the pretrained model of this run cannot be loaded: unet of .*{WEIGHTS}"):
        fm.load(made / "run")
