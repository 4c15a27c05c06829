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


def latents(seed=0):
    """Noisy clips, times per frame and a text."""
    rng = torch.Generator().manual_seed(seed)
    s, t = torch.rand(2, 2, 1, 3, 1, 1, generator=rng)
    return torch.randn(2, 4, 3, 8, 8, generator=rng), s, t, {"text": torch.randn(2, 5, 8, generator=rng)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["added", "decoupled"])
def test_the_teacher_and_a_student_of_wan_take_times_per_frame(home, kind):
    """Equal times of all frames are one time a row; other times of one frame change it, and others by attention."""
    from flowmaps.integrations.diffusers import teacher

    pretrained = teacher(home / "wan")
    student = fm.student(pretrained, getattr(fm.students, kind))
    x, s, t, text = latents()
    model, flow = pretrained.given(**text), student.given(**text)
    for parameter in flow.network.new.parameters() if flow.network.new is not None else ():
        torch.nn.init.normal_(parameter, std=0.2)  # it starts at zero, and would hide the target times
    same = torch.full((2, 1, 3, 1, 1), 0.6)
    torch.testing.assert_close(model.velocity(x, same), model.velocity(x, 0.6), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(flow(x, same, 0.2 * same), flow(x, 0.6, 0.12), atol=1e-5, rtol=1e-4)
    with torch.no_grad():  # one time for each of 16 tokens of a frame, as in the class of diffusers
        tokens = 1000 * t.reshape(2, 3, 1).expand(2, 3, 16).flatten(1)
        direct = pretrained.network.model(x, timestep=tokens, encoder_hidden_states=text["text"]).sample
    torch.testing.assert_close(model.velocity(x, t), direct, atol=1e-5, rtol=1e-4)
    late = t.clone()
    late[:, :, 2] = 0.9
    for one, other in ((model.velocity(x, t), model.velocity(x, late)), (flow(x, s, t), flow(x, s, late))):
        assert (one - other)[:, :, 2].abs().max() > 1e-2
    if kind == "added":  # the derivative in t is through the new embedding alone
        modes = fm.derivative.jvp, fm.derivative.finite_difference(1e-2)
        slopes = [mode(flow.average_velocity, (x, s, t), (0, 0, t - s))[1] for mode in modes]
        assert (slopes[0] - slopes[1]).abs().max() < 0.02 * slopes[0].abs().max()
    method = fm.methods.lmd(pretrained, times=fm.times.per_frame(fm.times.uniform_triangle(), axis=2))
    loss = method.loss(student, x, text)
    loss.value.backward()
    assert loss.terms["lagrangian"].s.shape == (6,) and next(student.network.network.parameters()).grad is not None
    with pytest.raises(ValueError, match="along axis 3 of x"):
        model.velocity(x, torch.rand(2, 1, 1, 8, 1))
