"""flowmaps distill, from arguments to run folders, on tiny pipelines."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.integrations.diffusers import Latents
from flowmaps.training import read_config, read_metrics
from tests.integrations import tiny

FAST = ["--batch-size", "4", "--steps", "2", "--no-progress-bar", "--trackers", "--sample-every", "0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Pipelines, images of one channel with classes, coloured images, and a prompt for each."""
    home, rng = tmp_path_factory.mktemp("distill"), np.random.default_rng(0)
    tiny.ddpm_unet(home / "unet", classes=3)
    tiny.stable_diffusion(home / "sd")
    tiny.flux(home / "flux")
    np.savez(home / "x.npz", x=rng.uniform(-1, 1, (20, 8, 8)).astype(np.float32), y=np.arange(20) % 3)
    np.save(home / "rgb.npy", rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8))
    (home / "prompts.txt").write_text("".join(f"a thing {i % 4}\n" for i in range(6)))
    return home


def distil(home, folder, out, *arguments):
    """The flow map of the run, and its config."""
    assert main(["distill", str(home / folder), "--out", str(out), *FAST, *map(str, arguments)]) == 0
    return fm.load(out), read_config(out)


def refused(capsys, *arguments):
    """What a command that is refused prints, without a traceback."""
    assert main(["distill", *map(str, arguments)]) == 2
    text = capsys.readouterr().err
    assert "error: " in text and "Traceback" not in text
    return text.partition("error: ")[2]


@pytest.fixture(scope="module")
def guided(home, tmp_path_factory):
    """A class-conditional run that is told its scale."""
    out = tmp_path_factory.mktemp("runs") / "guided"
    more = ["--checkpoint-every", "2", "--steps", "4", "--keep", "9", "--log-every", "1", "--dropout", "0.2"]
    distil(home, "unet", out, "--data", home / "x.npz", "--guidance", "1:4", *more)
    return out, more


@pytest.mark.slow
def test_a_class_conditional_pipeline(guided, tmp_path):
    out, _ = guided
    flow, config = fm.load(out), read_config(out)
    assert config["notes"]["guidance"] == "1:4" and config["data"]["classes"] == 3 and config["training"]["labels"]
    assert config["training"]["lr"] == 1e-4 and config["training"]["clip"] == 1 and "ClassifierFree" in flow.guided
    assert config["flow"]["network"]["arguments"]["network"]["arguments"]["folder"] is None
    x, label = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 3])
    assert flow.given(label=label, guidance=2.0)(x, 1.0, 0.0).shape == x.shape
    picture = tmp_path / "x.png"
    assert main(["sample", str(out), "-n", "4", "--guidance", "2", "-o", str(picture)]) == 0 and picture.is_file()


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_numbers(home, guided, tmp_path):
    out, more = guided
    again = tmp_path / "again"
    shutil.copytree(out, again)
    shutil.rmtree(again / "checkpoints" / "step_00000004")
    distil(home, "unet", again, "--data", home / "x.npz", "--guidance", "1:4", *more, "--resume")
    assert [row["loss"] for row in read_metrics(again)] == [row["loss"] for row in read_metrics(out)]
    one, other = (fm.load(run, ema=False).state_dict() for run in (out, again))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    other_scale = ["--data", str(home / "x.npz"), "--guidance", "1:5", *more, "--resume", "--out", str(again)]
    assert main(["distill", str(home / "unet"), *FAST, *other_scale]) == 2


def test_the_student_starts_as_its_teacher(home, tmp_path):
    """A rate of nearly nothing: what is loaded is what was there before the first step."""
    from flowmaps.integrations.diffusers import teacher

    arguments = ["--data", home / "x.npz", "--lr", "1e-30", "--times", "decoupled", "--lora", "2"]
    flow, config = distil(home, "unet", tmp_path / "run", *arguments)
    assert config["notes"]["lora"] == "2" and config["notes"]["times"] == "decoupled"
    x, label = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])
    velocities = [v.given(label=label).velocity(x, 0.6) for v in (flow, teacher(home / "unet"))]
    assert torch.allclose(*velocities, atol=1e-6)


@pytest.mark.slow
def test_prompts_and_a_negative_one(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", home / "rgb.npy", "--prompts", home / "prompts.txt", "--lora", "2", "--moments"]
    flow, config = distil(home, "sd", "run", *arguments, "--guidance", "3", "--negative-prompt", "ugly")
    assert config["notes"]["guidance"] == "3" and "scale 3" in flow.guided
    cache = tmp_path / "runs" / "cache-sd-rgb.npy"
    assert config["data"]["recipe"] == {"name_or_path": str(cache)}
    data = fm.data.load(cache)
    assert data.shape == (4, 8, 8) and list(data.prompts.texts) == [*(f"a thing {i}" for i in range(4)), "", "ugly"]
    assert main(["sample", "run", "-n", "3", "-o", "x.png", "--prompt", "a cat", "a dog"]) == 0
    assert main(["sample", "run", "-n", "3", "-o", "x.npy"]) == 2
    # with all weights, from the cache, which is read as it is
    flow, _ = distil(home, "sd", "full", "--data", cache, "--guidance", "2", "--dropout", "0.5")
    given = {name: value for name, value in data.prompts.conditions("a thing 1").items() if name != "size"}
    assert flow.given(**given)(torch.randn(1, 4, 8, 8), 1.0, 0.0).shape == (1, 4, 8, 8)


@pytest.mark.slow
def test_latents_are_steered_by_rewards_of_their_images(home, tmp_path, monkeypatch, capsys):
    """The reward sees decoded images, all particles have the prompt, and pixels of latents are not measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    arguments = ["--data", home / "rgb.npy", "--prompts", home / "prompts.txt", "--lora", "2"]
    flow, config = distil(home, "sd", "run", *arguments)
    seen = []
    bright = lambda images: (seen.append(images.shape), images.flatten(1).sum(1))[1]  # noqa: E731
    told = {"prompt": "a cat", "steps": 3, "particles": 6, "n": 4}
    out = fm.experiments.steer("run", reward=bright, out="x.png", **told)
    assert out.x.shape == (4, 4, 8, 8) and set(seen) == {(6, 3, 16, 16)} and (tmp_path / "x.png").is_file()
    free = fm.experiments.steer("run", reward=lambda images: 0 * images.flatten(1).sum(1), **told)
    images = Latents(home / "sd").decode(torch.cat((out.x, free.x))).flatten(1).sum(1)
    assert images[:4].mean() > images[4:].mean()
    with pytest.raises(ValueError, match="`deblur` measures images, and samples of run are latents of a VAE"):
        fm.experiments.steer("run", deblur=(1.0, "held-out:0"), prompt="a cat")
    with pytest.raises(ValueError, match="needs a text"):
        fm.experiments.steer("run", reward=bright)


@pytest.mark.slow
def test_without_data(home, tmp_path):
    prompts = ["--prompts", home / "prompts.txt", "--cache", tmp_path / "cache"]
    flow, config = distil(home, "sd", tmp_path / "pid", "--method", "pid", *prompts, "--guidance", "1:4")
    assert flow.only_source == 1.0 and config["data"]["shape"] == [4, 8, 8]
    flow, config = distil(home, "unet", tmp_path / "boot", "--method", "boot", "--guidance", "2", "--classes", "3")
    assert flow.only_source == 1.0 and config["data"]["classes"] == 3 and config["data"]["kind"] == "images"


def test_a_network_that_is_told_the_scale_already(home, tmp_path):
    arguments = ["--data", home / "rgb.npy", "--prompts", home / "prompts.txt", "--cache", tmp_path / "cache"]
    flow, config = distil(home, "flux", tmp_path / "run", *arguments, "--lora", "2", "--guidance", "1:4")
    assert config["notes"]["guidance"] == "1:4" and flow.guidance.scale == (1.0, 4.0)
    assert config["flow"]["network"]["arguments"]["network"]["arguments"]["told"] == []
    sample = ["sample", str(tmp_path / "run"), "-n", "2", "--guidance", "2", "--prompt", "a cat"]
    assert main([*sample, "-o", str(tmp_path / "x.png")]) == 0


def test_a_map_to_the_data_alone_is_not_told_the_target_time(home, tmp_path):
    flow, config = distil(home, "unet", tmp_path / "run", "--data", home / "x.npz", "--method", "lcm")
    assert flow.only_target == 0.0
    assert config["flow"]["network"]["arguments"]["times"]["function"].endswith("source_only")


def test_a_run_of_our_own(tmp_path):
    small = ["--network", "mlp", "--width", "8", "--depth", "1", *FAST]
    assert main(["train", "digits", "--label-dropout", "0.1", "--out", str(tmp_path / "teacher"), *small]) == 0
    flow, config = distil(tmp_path, "teacher", tmp_path / "student", "--guidance", "2", "--lora", "2")
    assert config["notes"]["teacher"] == str(tmp_path / "teacher") and config["data"]["name"] == "digits"
    assert main(["sample", str(tmp_path / "student"), "-n", "4", "-o", str(tmp_path / "x.png")]) == 0


def test_a_dry_run_says_what_it_takes_and_keeps_nothing(home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", str(home / "unet"), "--data", str(home / "x.npz"), "--dry-run", "--no-progress-bar"]) == 0
    said = capsys.readouterr().out
    assert "tried 3 steps of 2 rows" in said and "activations, for each of 64 rows" in said
    assert not list(tmp_path.iterdir())


def test_what_cannot_be(home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unet, sd, x, rgb = (home / name for name in ("unet", "sd", "x.npz", "rgb.npy"))
    tiny.ddpm_unet(tmp_path / "plain", channels=3)
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((unet, "--data", x, "--method", "imf"), "no distillation method; these are: lmd, ayf_lmd"),
        ((unet, "--data", x, "--method", "ayf_em"), "unknown method 'ayf_em' (did you mean ayf_emd"),
        ((unet,), "ayf_emd learns from data: --data IMAGES"),
        ((tmp_path / "empty", "--data", x), "is no pipeline of diffusers, it has no model_index.json"),
        ((unet / "unet", "--data", x), "is neither a run nor a pipeline"),
        ((unet, "--data", rgb), "takes rows of 1 channels, and rgb.npy has rows of shape (3, 16, 16)"),
        ((sd, "--data", x), "has no captions: write them beside the images"),
        ((sd, "--method", "pid"), "needs texts: pass --prompts FILE"),
        ((sd, "--method", "pid", "--data", rgb), "pid is data-free: leave --data out"),
        ((tmp_path / "plain", "--data", rgb, "--guidance", "2"), "takes neither"),
        ((unet, "--data", x, "--classes", "4", "--guidance", "2"), "if the last one is the null class, pass --cla"),
        ((unet, "--data", x, "--prompts", x), "has no text conditioning, so it takes no prompts"),
        ((unet, "--data", x, "--times", "source"), "ayf_emd learns jumps to every time"),
        (
            (unet, "--data", x, "--guidance-interval", "0:0.5"),
            "--guidance-interval applies to guidance: it needs --guidance",
        ),
    ):
        assert message in refused(capsys, *arguments), message
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "empty"}


@pytest.mark.slow
def test_the_cache_of_another_pipeline_is_refused(home, tmp_path, capsys):
    given = ["--data", home / "rgb.npy", "--prompts", home / "prompts.txt", "--cache", tmp_path / "cache"]
    distil(home, "sd", tmp_path / "run", *given, "--lora", "2")
    assert "has another origin" in refused(capsys, home / "flux", *given)
    assert "has another origin" in refused(capsys, home / "flux", "--data", tmp_path / "cache")
    manifest = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert manifest["complete"] and set(manifest["made"]["pipeline"]) == {"vae", "text_encoder", "tokenizer"}
