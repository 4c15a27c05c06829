"""Distillation of a tiny random video pipeline, from arguments to the table of motion."""

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.training import read_config
from tests.integrations import tiny

FAST = {"steps": 2, "batch_size": 4, "progress_bar": False, "trackers": (), "sample_every": 0}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A pipeline, latents of six clips, and a prompt for each."""
    home = tmp_path_factory.mktemp("video")
    tiny.wan(home / "wan")
    np.save(home / "x.npy", np.random.default_rng(0).normal(size=(6, 4, 3, 8, 8)).astype(np.float32))
    (home / "prompts.txt").write_text("".join(f"a thing {i % 4}\n" for i in range(6)))
    return home


@pytest.mark.slow
def test_clips_are_distilled_on_policy_and_their_motion_is_shown(home, tmp_path, capsys):
    arguments = ["--data", home / "x.npy", "--prompts", home / "prompts.txt", "--cache", tmp_path / "cache"]
    arguments += ["--method", "splitmeanflow", "--on-policy", "2", "--lora", "2", "--guidance", "3", "--out"]
    arguments += [tmp_path / "run", "--batch-size", "4", "--steps", "2", "--no-progress-bar", "--sample-every", "0"]
    assert main(["distill", str(home / "wan"), *map(str, arguments), "--trackers"]) == 0
    config, printed = read_config(tmp_path / "run"), capsys.readouterr().out
    assert config["method"]["name"] == "splitmeanflow_on_policy" and config["notes"]["on_policy"] == "2"
    lines = [
        line for line in printed.splitlines() if line.startswith(("Motion", "teacher", "floor", "student", "data"))
    ]
    assert len(lines) == 6 and lines[1].split()[-2:] == ["1", "0"]
    assert lines[3].startswith("student, 1 jump ") and lines[4].startswith("student, 2 jumps ")


@pytest.mark.slow
def test_a_map_to_the_data_alone_is_distilled_on_policy_by_restarts(home, tmp_path):
    run = fm.experiments.distill(
        home / "wan", data=home / "x.npy", prompts=home / "prompts.txt", method="lcm", on_policy=2,
        out=tmp_path / "lcm", cache=tmp_path / "cache", **FAST,
    )  # fmt: skip
    assert run.flow.only_target == 0.0 and len(run.motion) == 5
    assert all(torch.isfinite(torch.tensor([*row.motion, *row.ratio])).all() for row in run.motion)


@pytest.mark.slow
def test_on_policy_distillation_needs_prompts_alone_unless_a_term_learns_from_pairs(tmp_path):
    folder, given = tiny.stable_diffusion(tmp_path / "sd"), {"prompts": ["a thing", "a cat"], "on_policy": 2, **FAST}
    given |= {"cache": tmp_path / "cache"}
    run = fm.experiments.distill(folder, method="splitmeanflow", out=tmp_path / "run", **given)
    assert run.config["data"]["shape"] == [4, 8, 8] and run.motion == ()
    with pytest.raises(
        ValueError, match="the term diffusion cannot start on policy: it needs the conditional velocity"
    ):
        fm.experiments.distill(folder, method="ctm", method_args={"denoising": 0.25}, **given)
