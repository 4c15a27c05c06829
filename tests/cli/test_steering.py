"""Steered samples on the command line: files, numbers, the record, and refusals."""

import shlex

import numpy as np
import pytest
from PIL import Image

from flowmaps.cli import main
from flowmaps.cli.options_sample import Sample, Steering
from flowmaps.experiments import steer
from flowmaps.experiments.steering_methods import METHODS
from flowmaps.runs.steering_record import read_steered_record

TINY = ["--steps", "2", "--batch-size", "16", "--width", "8", "--depth", "1", "--no-progress-bar", "--trackers"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits without labels."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    command = ["train", "digits", "--no-labels", "--output", "gaussian-skip", "--out", str(out), "--sample-every", "0"]
    assert main([*command, *TINY]) == 0
    return out


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a mask, white below, and a picture."""
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(mask).save("mask.png")
    Image.fromarray((np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)).save("image.png")
    return tmp_path


def sample(run, *arguments):
    return main(["sample", str(run), *map(str, arguments)])


def refused(capsys, run, *arguments):
    """The sentence of a command that is refused before a file is written."""
    capsys.readouterr()
    assert sample(run, *arguments, "-o", "refused.png") == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text and not list(run.parent.glob("**/refused*"))
    return text.partition("error: ")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--inpaint", "mask.png", "image.png"], {"inpaint": ("mask.png", "image.png")}),
        (["--inpaint", "mask.png", "held-out:2"], {"inpaint": ("mask.png", "held-out:2")}),
        (["--deblur", "0.7", "image.png"], {"deblur": (0.7, "image.png")}),
        (["--downsample", "2", "held-out:1"], {"downsample": (2, "held-out:1")}),
        (["--reward", "label:7", "--steer", "fmtt"], {"reward": "label:7", "method": "fmtt"}),
    ],
)
def test_a_command_is_the_function(options, arguments, run, capsys):
    more = ["--noise", 2] if "reward" not in arguments else []
    noise = {"noise": 2.0} if more else {}
    assert sample(run, *options, *more, "--steps", 4, "--particles", 12, "-n", 7, "--seed", 3, "-o", "x.npy") == 0
    said = capsys.readouterr().err
    out = steer(run, **arguments, **noise, steps=4, particles=12, n=7, seed=3)
    assert np.array_equal(np.load("x.npy"), out.x.numpy())
    assert "7 samples of digits" in said and "x.npy" in said
    assert f"effective particles {out.numbers['ess'] * 12:.3g} of 12" in said
    assert f"log Z {out.numbers['log_z']:.4g}" in said
    assert ("residual" in said) == ("reward" not in arguments) and ("PSNR" in said) == ("held-out" in str(options))


@pytest.mark.slow
def test_a_picture_and_the_command_that_made_it(run):
    command = ["--inpaint", "mask.png", "held-out:2", "--noise", "2.0", "--steps", "3", "--particles", "9"]
    assert sample(run, *command, "-o", "filled.png") == 0
    assert Image.open("filled.png").size[0] > 600
    record, picture = read_steered_record(run)
    assert Image.open("filled.png").size == Image.open(run / "steered.png").size and picture
    words = shlex.split(record["command"])
    assert words[:3] == ["flowmaps", "sample", str(run)] and "filled.png" in words
    (run / "steered.json").unlink()
    assert main(words[1:]) == 0 and read_steered_record(run)[0] == record  # it is the same command


def test_a_function_of_a_module(run, folder, monkeypatch):
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (folder / "own_rewards_cli.py").write_text("def bright(x0):\n    return x0.flatten(1).sum(1)\n")
    assert sample(run, "--reward", "own_rewards_cli:bright", "--steps", 5, "--particles", 16, "-o", "x.npy") == 0
    assert sample(run, "--steps", 1, "-n", 16, "-o", "free.npy") == 0
    assert np.load("x.npy").mean() > np.load("free.npy").mean()
    assert read_steered_record(run)[0]["target"] == "reward bright"


def test_without_steering_nothing_changes(run):
    assert sample(run, "-o", "x.npy") == 0 and np.load("x.npy").shape == (64, 1, 8, 8)
    assert sample(run, "-n", 5, "--steps", 2, "-o", "x.npy") == 0 and np.load("x.npy").shape == (5, 1, 8, 8)


def test_the_options_name_every_method():
    import typing

    hints = typing.get_type_hints(Steering)["steer"]
    assert typing.get_args(hints) == ("auto", *METHODS)
    assert Sample.__mro__[1] is Steering


def test_particles_that_collapse_are_said(run, capsys):
    command = ["--inpaint", "mask.png", "held-out:2", "--noise", "0.001", "--steps", "3", "--particles", "32"]
    assert sample(run, *command, "--steer", "tds", "-o", "x.npy") == 0
    assert "warning: the particles collapsed" in capsys.readouterr().err


WRONG = [
    ("--steer fmtt", "--steer is for steered samples: say where to steer by --reward, --infill, --inpaint"),
    ("--noise 0.1", "--noise is for steered samples"),
    ("--particles 8", "--particles is for steered samples"),
    ("--classifier a.safetensors", "--classifier is for steered samples"),
    (
        "--reward label:7 --deblur 1 image.png",
        "one of --reward, --infill, --inpaint, --deblur and --downsample, got",
    ),
    ("--reward label:12", "knows the classes 0 to 9"),
    ("--reward seven", "a reward is label:7"),
    ("--reward label:7 --classifier none.safetensors", "no file none.safetensors"),
    ("--reward label:7 --classifier image.png", "holds no classifier"),
    ("--deblur 1 image.png --classifier a.safetensors", "--classifier is for the reward of a class"),
    ("--reward label:7 --noise 0.1", "--noise is the noise of a measurement"),
    ("--reward label:7 --step heun", "--step is for samples without steering"),
    ("--reward label:7 --prompt a b", "steered samples have one --prompt"),
    ("--reward label:7 --prompt a", "no text conditioning"),
    ("--reward label:7 --label 3", "trained without class labels"),
    ("--reward label:7 --guidance 2", "trained without class labels"),
    ("--reward label:7 --steer dps", "dps is for measurements"),
    ("--reward label:7 --steer tilt --particles 8", "tilt draws each sample by itself, without --particles"),
    ("--reward label:7 --particles 1", "particles must be at least 2"),
    ("--reward label:7 -n 0", "n must be at least 1"),
    ("--reward label:7 -n 65", "65 samples need at least as many --particles, and there are 64"),
    ("--reward label:7 --steps 0", "steps must be at least 1"),
    ("--reward label:7 --seed -1", "seed"),
    ("--inpaint none.png image.png", "there is no picture none.png"),
    ("--inpaint mask.png none.png", "there is no picture none.png"),
    ("--inpaint image.png image.png", "white in the hole and black elsewhere, and 47 of 64"),
    ("--inpaint mask.png held-out:x", "a held-out image is held-out:0 to held-out:999"),
    ("--inpaint mask.png held-out:1000", "a held-out image is held-out:0 to held-out:999"),
    ("--inpaint mask.png held-out:400", "the data hold 360 images out, held-out:0 to held-out:359"),
    ("--inpaint white.png image.png", "all of it is white"),
    ("--inpaint black.png image.png", "all of it is black"),
    ("--inpaint large.png image.png", "a mask has the size of the data, 8 x 8"),
    ("--inpaint mask.png large.png", "1 channels and 8 x 8 pixels (height x width), got 1 and 16 x 8"),
    ("--inpaint mask.png colours.png", "it has colours, and the data of the run are grey"),
    ("--inpaint mask.png deep.png", "it has more than 8 bits"),
    ("--inpaint mask.png broken.png", "a picture cannot be used"),
    ("--inpaint mask.png two.gif", "it has several frames"),
    ("--deblur 0 image.png", "sigma must be positive"),
    ("--deblur nan image.png", "sigma must be"),
    ("--deblur 9 image.png", "needs images"),
    ("--deblur 1 image.png --noise 0", "noise must be positive"),
    ("--downsample 3 image.png", "needs sides that it divides"),
    ("--downsample 0 image.png", "factor must be at least 1"),
    ("--downsample 2 large.png", "8 x 8 or 4 x 4 pixels"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_options_are_refused(arguments, said, run, capsys, folder):
    for name, colour, size in (("white", "white", (8, 8)), ("black", "black", (8, 8)), ("large", "white", (8, 16))):
        Image.new("L", size, colour).save(f"{name}.png")
    Image.new("RGB", (8, 8), "red").save("colours.png")
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save("deep.png")
    Image.new("L", (8, 8)).save("two.gif", save_all=True, append_images=[Image.new("L", (8, 8), "white")])
    (folder / "broken.png").write_bytes(b"no picture")
    text = refused(capsys, run, *arguments.split())
    assert said in " ".join(text.split()), text


def test_other_data_than_images_are_not_measured(tmp_path, capsys):
    out = tmp_path / "points"
    assert main(["train", "gaussian", "--out", str(out), "--sample-every", "0", *TINY]) == 0
    assert "--deblur measures images, and samples of" in refused(capsys, out, "--deblur", "1", "image.png")
