"""Each setting of training is declared once, and `train`, the command line, recipes and cards have it from there."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps.cli import parse
from flowmaps.cli.options import Train
from flowmaps.cli.options_distill import Distill
from flowmaps.cli.options_shared import Keeping, Learning
from flowmaps.export.card import _settings
from flowmaps.recipes import RECIPES
from flowmaps.training import TrainConfig, read_config
from flowmaps.training.config import DECIDING, OTHER_WORDS, SIDE, KeepingConfig, LearningConfig, among, help_of, names
from flowmaps.training.schedule import WarmUpDecay

PACKAGE = Path(fm.__file__).parent
DEFAULTS = {field.name: field.default for field in fields(TrainConfig)}
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8, "steps": 2}


def test_the_defaults_are_the_ones_of_before():
    assert DEFAULTS == {
        "steps": None, "seconds": None, "batch_size": 256, "lr": 1e-3, "optimizer": None, "schedule": WarmUpDecay(),
        "ema": 0.999, "clip": None, "accumulate": 1, "shard": False, "seed": 0, "labels": None, "precision": "no",
        "compile": False, "out": None, "resume": False, "checkpoint_every": 1000, "keep": 3, "sample_every": 1000,
        "log_every": 50, "timeout": 1800.0, "trackers": ("tensorboard",), "progress_bar": True, "accelerator": None,
        "notes": None, "fingerprint": "samples", "device": None, "clock": None,
    }  # fmt: skip


def test_train_takes_every_setting_with_its_default_and_documents_it():
    parameters = inspect.signature(fm.train).parameters
    assert list(parameters)[:3] == ["flow", "method", "data"]
    assert {name: parameters[name].default for name in list(parameters)[3:]} == DEFAULTS
    text = " ".join(fm.train.__doc__.split())
    for name, said in help_of(TrainConfig).items():
        assert said and f" {name}: {said}" in text, name


@pytest.mark.parametrize(
    ("options", "config", "own"),
    [
        (Learning, LearningConfig, set()),
        (Keeping, KeepingConfig, set()),
        (Train, TrainConfig, {"steps", "labels", "batch_size"}),
    ],
)
def test_the_options_of_the_command_line_are_the_settings(options, config, own):
    known = {field.name: field.default for field in fields(options)}
    for name in names(config):
        if name in known and name not in (*own, "out"):
            assert known[name] == DEFAULTS[name], name
    assert set(names(LearningConfig, KeepingConfig)) <= {field.name for field in fields(Train)}


def test_distill_differs_where_it_says_so_alone():
    known = {field.name: field.default for field in fields(Distill)}
    differ = {name for name in names(LearningConfig, KeepingConfig) if known[name] != DEFAULTS[name]}
    assert differ == {"batch_size", "lr", "clip"}


def test_help_shows_the_text_of_every_setting(capsys):
    with pytest.raises(SystemExit):
        parse(["train", "--help-all"])
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    for config in (LearningConfig, KeepingConfig):
        for name, said in help_of(config).items():
            if name == "batch_size":
                continue  # chosen by the command if it is not given
            assert f"--{name.replace('_', '-')}" in shown and said in shown, name


def test_recipes_bring_settings_of_training_and_nothing_else():
    for recipe in RECIPES.values():
        settings = recipe.settings()
        assert set(settings) <= set(DEFAULTS)
        assert {"steps", "batch_size", "lr", "ema", "clip", "precision", "schedule", "optimizer"} == set(settings)
        assert {**among(recipe), "optimizer": settings["optimizer"]} == settings


def test_config_json_and_the_card_have_the_settings_that_decide(tmp_path):
    data = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    list(fm.train(flow, fm.methods.lsd(), data, out=tmp_path / "run", clip=1.5, **QUIET))
    config = read_config(tmp_path / "run")
    assert set(config["training"]) == set(DECIDING) and not set(DECIDING) & set(SIDE)
    assert set(DECIDING) | set(SIDE) == set(DEFAULTS)
    assert config["training"]["clip"] == 1.5 and config["training"]["labels"] is False
    card = _settings(config)
    for name, value in config["training"].items():
        assert bool(re.search(rf"^\| {name} +\|", card, re.M)) == (value is not None and value is not False), name


def test_settings_that_cannot_be_are_refused():
    for given, message in [
        ({}, "either steps= or seconds="),
        ({"steps": 1, "seconds": 1.0}, "either steps= or seconds="),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1, "lr": float("inf")}, "lr must be finite, got inf"),
        ({"steps": 1, "keep": 0}, "keep must be at least 1"),
        ({"seconds": 1.0, "clock": "wall"}, 'clock must be "processor" or None'),
        ({"steps": 1, "precision": "half"}, 'precision must be "no" or "bf16"'),
        ({"steps": 1, "fingerprint": "all"}, 'fingerprint must be "samples", "whole" or "off"'),
    ]:
        with pytest.raises(ValueError, match=message):
            TrainConfig(**given)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("learning_rate", ": here it is lr$"),
        ("epochs", ": here it is steps, and an epoch has as many as the training rows over batch_size"),
        ("max_grad_norm", ": here it is clip$"),
        ("mixed_precision", ": here it is precision$"),
        ("gradient_accumulation_steps", ": here it is accumulate$"),
        ("batchsize", r" \(did you mean batch_size"),
        ("stepps", r" \(did you mean steps"),
        ("colour", "$"),
    ],
)
def test_words_of_other_libraries_are_answered_by_ours(word, hint, tmp_path):
    """By `fm.train`, and by the experiments, which take the same settings."""
    for call in (fm.train, fm.fit):
        with pytest.raises(TypeError, match=rf"train\(\) got an unexpected keyword argument '{word}'{hint}"):
            call(None, None, None, steps=1, **{word: 1})
    with pytest.raises(TypeError, match=rf"train\(\) got an unexpected keyword argument '{word}'{hint}"):
        fm.experiments.train("two_moons", out=tmp_path / "run", **{word: 1})


def test_every_other_word_stands_for_a_setting():
    assert set(OTHER_WORDS.values()) <= set(names(TrainConfig)) and not OTHER_WORDS.keys() & set(names(TrainConfig))


ADDED = '''
    patience: int = 7
    """Steps to wait for something that nobody knows."""
'''
ASK = """
import json, sys
import flowmaps as fm
from flowmaps.cli import main
parameter = __import__("inspect").signature(fm.train).parameters["patience"]
print(json.dumps([fm.__file__, parameter.default, fm.train.__doc__]), file=sys.stderr)
main(["train", "--help"])
"""


@pytest.mark.slow
def test_a_field_added_in_one_place_appears_everywhere(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "flowmaps", ignore=shutil.ignore_patterns("__pycache__"))
    declared = tmp_path / "flowmaps" / "training" / "config.py"
    before = declared.read_text()
    place = before.index("    lr: float = 1e-3\n")
    declared.write_text(before[:place] + ADDED.lstrip("\n") + before[place:])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    asked = subprocess.run(
        [sys.executable, "-c", ASK], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert asked.stderr.startswith("["), asked.stderr
    file, default, doc = json.loads(asked.stderr.splitlines()[0])
    assert Path(file).is_relative_to(tmp_path)
    assert default == 7 and "patience: Steps to wait for something that nobody knows." in doc
    assert (
        "--patience INT" in asked.stdout
        and "Steps to wait for something that nobody knows. (default: 7)"
        in " ".join(re.sub("│", " ", asked.stdout).split())
    )
