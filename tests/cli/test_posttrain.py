"""`flowmaps posttrain`, from arguments to a run folder and a table."""

import re
import sys

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.evaluate.features import Classifier, save_classifier
from flowmaps.runs.folder import read_config

FAST = ["--batch-size", "8", "--no-progress-bar", "--trackers", "--sample-every", "0"]
SHORT = ["--steps", "2", "-n", "32", *FAST]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert (
        main(["train", "digits", "--no-labels", "--steps", "1", "--width", "8", "--depth", "1", *FAST, "-o", str(out)])
        == 0
    )
    return out


@pytest.mark.slow
def test_a_class_from_the_shell(digits, tmp_path, capsys):
    out = tmp_path / "sevens"
    words = ["posttrain", str(digits), "--reward", "label:7", "--beta", "2", "--method-args", "draws=1", "steps=2"]
    assert main([*words, "-o", str(out), *SHORT]) == 0
    printed = capsys.readouterr()
    table = [line.split() for line in printed.out.splitlines()]
    assert table[0][0] == "label:7," and table[1][:2] == ["before", "after"]
    assert re.search(r"mean reward +-[0-9.]+ \+- [0-9.]+ +-[0-9.]+ \+- [0-9.]+", printed.out)
    assert re.search(r"effective share of the samples before: [0-9.]+%", printed.out)
    assert "beta log E e^(r/beta)): -" in printed.out
    assert "tilting on digits" in printed.err and f"flowmaps sample {out}" in printed.err
    notes = read_config(out)["notes"]["post_training"]
    assert notes == {
        "run": str(digits), "step": 1, "reward": "label:7", "classifier": None, "beta": 2.0, "method": "tilting",
    }  # fmt: skip
    assert main(["sample", str(out), "-n", "4", "-o", str(tmp_path / "x.png")]) == 0
    assert main([*words, "-o", str(out), *SHORT, "--resume"]) == 0
    assert "already complete" in capsys.readouterr().err


def test_a_classifier_of_a_file_and_a_reward_of_a_module(digits, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    save_classifier(Classifier((1, 8, 8), 12).eval(), tmp_path / "c.safetensors")
    given = [
        "--classifier",
        str(tmp_path / "c.safetensors"),
        "--method",
        "filtered",
        "--method-args",
        "n=40",
        "then=imf",
    ]
    assert main(["posttrain", str(digits), "--reward", "label:11", *given, "-o", str(tmp_path / "a"), *SHORT]) == 0
    config = read_config(tmp_path / "a")
    assert config["notes"]["post_training"]["classifier"] == str(tmp_path / "c.safetensors")
    assert config["method"]["name"] == "imf" and config["data"]["coupling"]["n"] == 40
    (tmp_path / "brightness.py").write_text("def bright(x0):\n    return x0.mean((1, 2, 3))\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    capsys.readouterr()
    own = ["--reward", "brightness:bright", "--method", "reward-backpropagation"]
    assert main(["posttrain", str(digits), *own, "-o", str(tmp_path / "b"), *SHORT]) == 0
    assert "brightness:bright, 32 samples of 1 step" in capsys.readouterr().out
    assert read_config(tmp_path / "b")["notes"]["post_training"]["reward"] == "bright"
    assert fm.load(tmp_path / "b").given is not None


@pytest.mark.slow
def test_a_student_of_a_pipeline_with_its_guidance(tmp_path, monkeypatch):
    """The new run keeps the pipeline behind it and the scale that is baked in; LoRA leaves the student's weights."""
    from tests.integrations import tiny

    tiny.ddpm_unet(tmp_path / "unet", classes=3)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.uniform(-1, 1, (20, 8, 8)).astype(np.float32), y=np.arange(20) % 3)
    (tmp_path / "brightness_of_images.py").write_text("def bright(x0):\n    return x0.mean((1, 2, 3))\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ["distill", "unet", "--data", "x.npz", "--guidance", "2", "-o", "student", "--steps", "1", *FAST]
    assert main(words) == 0
    for method in ("tilting", "lmd"):
        own = ["--reward", "brightness_of_images:bright", "--method", method, "--lora", "2", "-o", method]
        assert main(["posttrain", "student", *own, *SHORT]) == 0
        config, flow = read_config(tmp_path / method), fm.load(tmp_path / method)
        assert config["notes"]["folder"] == str(tmp_path / "unet") and config["notes"]["guidance"] == "2"
        assert config["notes"]["lora"] == "2" and flow.guidance.scale == 2
        assert main(["sample", method, "-n", "3", "--label", "1", "-o", f"{method}.png"]) == 0


@pytest.mark.slow
def test_a_network_of_texts_is_refused(tmp_path, monkeypatch, capsys):
    from tests.integrations import tiny

    tiny.stable_diffusion(tmp_path / "sd")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rgb.npy", rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8))
    (tmp_path / "prompts.txt").write_text("a thing\n" * 6)
    monkeypatch.chdir(tmp_path)
    words = ["distill", "sd", "--data", "rgb.npy", "--prompts", "prompts.txt", "-o", "run", "--steps", "1", *FAST]
    assert main(words) == 0
    capsys.readouterr()
    assert main(["posttrain", "run", "--reward", "label:1", "-o", "more", *SHORT]) == 2
    assert "takes a text, and its samples have no reward without one" in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    ([], "--reward"), (["--reward", "label:10"], "classes 0 to 9"), (["--reward", "label:7", "--beta", "0"], "beta"),
    (["--reward", "label:7", "--method", "imf"], "imf learns from data alone"),
    (["--reward", "label:7", "--method-args", "drws=2"], "did you mean draws"),
    (["--reward", "label:7", "--method-args", "draws=many"], "draws must be int"),
    (["--reward", "label:7", "--lora-targets", "inner"], "--lora-targets names layers for --lora"),
    (["--reward", "nothing:here"], "there is no module nothing"),
])  # fmt: skip
def test_wrong_words_are_a_sentence(digits, tmp_path, capsys, words, message):
    assert main(["posttrain", str(digits), *words, "-o", str(tmp_path / "run"), *SHORT]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert message in text and "Traceback" not in text and not (tmp_path / "run").exists()
