"""Post-training of a run: the law that each method reaches, the new run folder, resuming, and refusals."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.experiments.posttraining import posttrain
from flowmaps.experiments.reward_change import Rewarded, reward_change
from flowmaps.experiments.run_data import run_data
from flowmaps.runs.folder import read_config

pytestmark = pytest.mark.slow

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0}
FAST = {"steps": 2, "batch_size": 8, "n": 16, **QUIET}


def height(x0):
    """The reward x: the law N(0, 1) tilted by it at the temperature beta is N(1/beta, 1)."""
    return x0[:, 0]


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    """A run whose flow map is that of N(0, 1): a network of zeros beside the velocity of a fitted Gaussian."""
    home = tmp_path_factory.mktemp("normal")
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    np.save(home / "normal.npy", ((x - x.mean()) / x.std()).numpy())
    options = {"network": "mlp", "output": "gaussian-skip", "width": 16, "depth": 1, "lr": 1e-30, "steps": 1}
    data = {"data_args": {"standardise": False}}
    return experiments.train(home / "normal.npy", out=home / "run", batch_size=8, **data, **options, **QUIET).folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "run"
    return experiments.train("digits", steps=1, width=8, depth=1, batch_size=8, out=out, labels=False, **QUIET).folder


@pytest.mark.parametrize("method, arguments, expected, near", [
    ("tilting", {"draws": 1, "steps": 1}, 0.5, 0.12), ("lmd", {}, 0.5, 0.08), ("filtered", {"n": 1000}, 0.5, 0.2),
    ("reward-backpropagation", {}, 0.25, 0.04),
])  # fmt: skip
def test_each_method_reaches_its_law(normal, tmp_path, method, arguments, expected, near):
    """Beta = 2: the tilted law is N(1/2, 1), and direct backpropagation moves by 1/(2 beta). Standard error .03."""
    settings = {"steps": 200, "batch_size": 32, "lr": 3e-3, "ema": 0.98, "n": 1000, **QUIET}
    run = posttrain(
        normal, reward=height, beta=2.0, method=method, method_args=arguments, out=tmp_path / "run", **settings
    )
    change = run.change
    assert abs(change.before.value) < 4 * change.before.stderr
    assert abs(change.after.value - change.before.value - expected) < near
    assert abs(change.tilted.value - 0.5) < 4 * change.tilted.stderr
    assert abs(change.bound.value - 0.25) < 4 * change.bound.stderr  # beta log E e^(x/beta) = 1/(2 beta)
    assert change.diversity_after == pytest.approx(2**0.5, abs=0.15)
    assert change.steps == (1, 1) and 0.6 < change.effective < 0.95  # e^(-1/beta^2) = .78 in the limit


def test_the_new_folder_is_a_run_like_any_other(normal, tmp_path):
    run = posttrain(normal, reward=height, beta=0.5, out=tmp_path / "run", **FAST)
    told = {"run": str(normal), "step": 1, "reward": "height", "classifier": None, "beta": 0.5, "method": "tilting"}
    assert run.config["notes"]["post_training"] == told
    assert run.config["method"]["name"] == "tilting" and run.steps == 2
    assert experiments.sample(run, n=4).shape == (4, 1)
    assert experiments.evaluate(run, quick=True, n=64)["step"] == 2
    page = experiments.report(run, quick=True).read_text()
    assert f"towards height by tilting, beta 0.5, from step 1 of {normal}" in page
    assert experiments.train(run_data(run), start=run, method="imf", out=tmp_path / "more", **_short()).steps == 1
    assert experiments.distill(run, method="lmd", out=tmp_path / "fast", **_short()).steps == 1
    again = posttrain(run, reward=height, method="lmd", out=tmp_path / "again", **FAST)
    assert again.config["notes"]["post_training"]["run"] == str(run)


def _short():
    return {"steps": 1, "batch_size": 8, **QUIET}


def test_the_map_of_the_data_is_no_truth_for_another_law(tmp_path):
    """A run on a distribution with a known map is measured against it; a post-trained run has another map."""
    before = experiments.train("gaussian", width=8, depth=1, out=tmp_path / "before", **_short())
    after = posttrain(before, reward=height, out=tmp_path / "after", **FAST)
    assert run_data(before).exact is not None and run_data(after).exact is None
    assert "map_error" in experiments.evaluate(before, quick=True, n=64)
    assert "map_error" not in experiments.evaluate(after, quick=True, n=64)


@pytest.mark.parametrize("method", ["tilting", "filtered"])
def test_a_resumed_run_has_the_numbers_of_one_without_a_break(digits, tmp_path, method):
    settings = {**FAST, "steps": 4, "checkpoint_every": 2, "keep": 9, "method": method}
    settings["method_args"] = {"draws": 1} if method == "tilting" else {"n": 40, "candidates": 2}
    whole = posttrain(digits, reward="label:7", out=tmp_path / "whole", **settings)
    shutil.copytree(whole.folder, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_00000004")
    broken = posttrain(digits, reward="label:7", out=tmp_path / "broken", resume=True, **settings)
    assert broken.steps == 2
    for mine, theirs in zip(whole.flow.parameters(), broken.flow.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert whole.change == broken.change
    with pytest.raises(FileExistsError, match="resume"):
        posttrain(digits, reward="label:7", out=tmp_path / "whole", **settings)
    done = posttrain(digits, reward="label:7", out=tmp_path / "whole", resume=True, **settings)
    assert done.steps == 0 and done.change == whole.change


def test_another_reward_temperature_or_run_is_no_resumption(digits, tmp_path):
    settings = {**FAST, "method_args": {"draws": 1, "steps": 1}}
    posttrain(digits, reward="label:7", out=tmp_path / "run", **settings)
    other = shutil.copytree(digits, tmp_path / "other")
    for changed in ({"reward": "label:3"}, {"beta": 2.0}, {"method_args": {"draws": 2, "steps": 1}}):
        with pytest.raises(ValueError, match="another configuration"):
            posttrain(digits, **{"reward": "label:7", **settings, **changed}, out=tmp_path / "run", resume=True)
    more = experiments.train("digits", start=digits, labels=False, out=tmp_path / "more", **_short())
    shutil.copy(other / "classifier.safetensors", more.folder / "classifier.safetensors")
    with pytest.raises(ValueError, match="another configuration"):
        posttrain(more, reward="label:7", out=tmp_path / "run", resume=True, **settings)


def test_low_rank_additions_leave_the_weights_of_the_run(digits, tmp_path):
    run = posttrain(
        digits, reward="label:7", lora=2, lora_targets=["inner", "outer"], method="reward_backpropagation",
        out=tmp_path / "run", **FAST, lr=1e-2,
    )  # fmt: skip
    assert run.config["notes"]["lora"] == "2"
    adapted, before = fm.load(run).state_dict(), fm.load(digits).state_dict()
    kept = [name for name in adapted if "base_layer" in name]
    assert kept and any(bool(value.any()) for name, value in adapted.items() if "lora_B" in name)
    for name in kept:
        plain = name.replace("network.", "", 1).replace(".base_layer", "")
        assert torch.equal(adapted[name], before[plain])
    assert experiments.sample(run, n=3).shape == (3, 1, 8, 8)


def test_a_method_of_your_own(normal, tmp_path):
    def mine(reward, beta, reference, *, steps=2):
        return fm.methods.grpo(reward, beta, reference, steps=steps)

    run = posttrain(normal, reward=height, method=mine, method_args={"steps": 3}, out=tmp_path / "run", **FAST)
    assert run.config["notes"]["post_training"]["method"] == "mine"
    with pytest.raises(TypeError, match=r"function \(reward, beta, reference\) -> Method, and .* no argument beta"):
        posttrain(normal, reward=height, method=lambda reward, reference: None, **FAST)


def test_a_class_conditional_run(tmp_path):
    run = experiments.train("digits", width=8, depth=1, out=tmp_path / "labels", **_short())
    for method in ("tilting", "lmd", "grpo"):
        after = posttrain(run, reward=lambda x0: x0.mean((1, 2, 3)), method=method, out=tmp_path / method, **FAST)
        assert after.config["training"]["labels"] and experiments.sample(after, n=2, label=7).shape == (2, 1, 8, 8)


# --- the comparison of before and after -------------------------------------------------------------------------------


def rewarded(x):
    return Rewarded(x, x[:, 0], 1)


def test_lost_diversity_is_a_warning():
    """All samples at the best place have a high reward and no diversity; a translation keeps it."""
    x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1)).double()
    with pytest.warns(UserWarning, match=r"lost their diversity: the distance of two of them is 0.14.*, and 1.4"):
        change = reward_change(rewarded(x), rewarded(3 + 0.1 * x), 1.0)
    assert change.collapsed and change.after.value == pytest.approx(3, abs=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reward_change(rewarded(x), rewarded(x + 0.5), 1.0).collapsed is None


def test_few_effective_samples_tell_nothing_of_the_tilted_law():
    x = torch.randn(500, 1, generator=torch.Generator().manual_seed(1)).double()
    with pytest.warns(UserWarning, match=r"the bound rests on [0-9.]+ of 500 samples"):
        change = reward_change(rewarded(x), rewarded(x), 0.02)
    assert change.tilted is None and change.diversity_tilted is None and change.collapsed is None


# --- refusals ---------------------------------------------------------------------------------------------------------


def flat(x0):
    return x0.detach()[:, 0]


def wide(x0):
    return x0


@pytest.mark.parametrize("wrong, message", [
    ({"method": "imf"}, "imf learns from data alone and follows no reward; these are tilting, reward_back"),
    ({"method": "tiltin"}, "unknown method of post-training 'tiltin' .did you mean tilting"),
    ({"method": fm.methods.imf()}, "pass the function that makes it, instead of a Method"),
    ({"method": 3}, "a method is a name"),
    ({"method_args": {"beta": 2.0}}, "`beta` is given to `posttrain` itself"),
    ({"method_args": {"drows": 2}}, "tilting has no argument 'drows' .did you mean draws"),
    ({"method": "filtered", "method_args": {"m": 2}}, "filtered has no argument 'm'"),
    ({"method": "filtered", "method_args": {"then": "lmd"}}, "lmd learns from a teacher, and filtered samples"),
    ({"beta": 0.0}, "beta must be positive"),
    ({"n": 1}, "n must be at least 2"),
    ({"lora_targets": ["first"]}, "`lora_targets` names layers for `lora`"),
    ({"data_args": {"labels": "kind"}}, "`data_args` are options of `data`"),
    ({"data": torch.randn(20, 3)}, "takes rows of shape .1,., and .* has .3,."),
    ({"reward": flat}, "the reward has no gradient"),
    ({"reward": wide}, "a reward must return one number for each row"),
    ({"reward": "seven"}, "a reward is label:7"),
    ({"reward": "label:7"}, "needs images, or vectors"),
    ({"stepps": 3}, "stepps"),
])  # fmt: skip
def test_a_wrong_argument_is_refused_before_a_folder_is_made(normal, tmp_path, wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        posttrain(normal, **{"reward": height, "out": tmp_path / "run", **FAST, **wrong})
    assert not (tmp_path / "run").exists()


def test_runs_that_cannot_be_post_trained_are_refused(tmp_path):
    told = experiments.train("digits", width=8, depth=1, guidance=(1, 3), out=tmp_path / "told", **_short())
    with pytest.raises(ValueError, match="takes the scale of guidance"):
        posttrain(told, reward="label:7", **FAST)
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        posttrain(tmp_path / "nothing", reward="label:7", **FAST)
    partial = experiments.train("two_moons", method="ct", out=tmp_path / "ct", width=8, depth=1, **_short())
    for method in ("tilting", "lmd"):
        with pytest.raises(ValueError, match="partial flow map"):
            posttrain(partial, reward=height, method=method, out=tmp_path / "x", **FAST)
    after = posttrain(partial, reward=height, method="reward_backpropagation", out=tmp_path / "x", **FAST)
    assert after.flow.only_target == 0  # one jump is all that it needs


@pytest.mark.parametrize("change, message", [
    ({"beta": "1"}, "notes.post_training.beta must be"), ({"beta": -1.0}, "beta must be a positive number"),
    ({"beta": float("inf")}, "beta must be a positive number"), ({"run": None}, "notes.post_training.run must be"),
    ({"classifier": 3}, "notes.post_training.classifier must be"),
])  # fmt: skip
def test_a_broken_entry_of_config_json_is_refused(normal, tmp_path, change, message):
    run = posttrain(normal, reward=height, out=tmp_path / "run", **FAST).folder
    config = json.loads((run / "config.json").read_text())
    config["notes"]["post_training"] |= change
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=re.escape("config.json cannot be used: ") + ".*" + message):
        read_config(run)
    del config["notes"]["post_training"]["method"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="method is missing"):
        read_config(run)
