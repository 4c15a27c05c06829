"""Damaged records are noticed, and records have the step of the weights that were measured."""

import itertools
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.data.caching import Content, make_cache
from flowmaps.evaluate import Classifier, evaluate_run, read_evaluation
from flowmaps.evaluate.features import load_classifier, save_classifier
from flowmaps.experiments import evaluation
from flowmaps.files import unsealed
from flowmaps.runs import checkpoint
from flowmaps.runs.records import write_evaluation
from flowmaps.training import read_config, read_metrics
from tests.faults.children import QUIET, same
from tests.faults.test_damage import flips

pytestmark = pytest.mark.slow

ROW = {"sampler": "jump", "steps": 1, "distance": 0.125, "stderr": 0.5, "seconds_per_sample": 2.0, "network_calls": 1}
RESULT = {"metric": "m", "step": 4, "floor": 0.5, "floor_stderr": 0.25, "samples": 8, "device": "cpu"}
RESULT |= {"measures": {"distance": "d"}, "rows": [ROW]}
QUICK = {"n": 32, "draws": 2, "jumps": (1,), "ode_steps": (2,)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with the checkpoints of steps 2 and 4, and its last state."""
    run = tmp_path_factory.mktemp("finished") / "run"
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    plan = {**QUIET, "steps": 4, "checkpoint_every": 2, "log_every": 1}
    *_, state = fm.train(flow, fm.methods.imf(), fm.data.load("two_moons"), out=run, **plan)
    return run, state


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def harm(file):
    """Flip a bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_records_have_the_step_of_the_weights_that_were_measured(run, tmp_path):
    harm(run / "checkpoints" / "step_00000004" / "ema.safetensors")
    said = []
    with pytest.warns(UserWarning, match=r"step_00000004 is damaged: ema\.safetensors .*going back to step_00000002"):
        result = evaluate_run(run, **QUICK)
        kept = read_evaluation(run)
        page = experiments.report(run).read_text()
        experiments.export(run, tmp_path / "out")
        experiments.sample(run, n=2, out=tmp_path / "x.png", say=said.append)
    assert result["step"] == 2 and result["ema"] is True and kept == result
    card = (tmp_path / "out" / "README.md").read_text()
    assert "averaged ones of step 2" in " ".join(page.split()) and "averaged ones of step 2." in card
    assert "At step 2, 32 samples" in card and said == [
        f"2 samples of two_moons, weights of step 2, 1 x jump: {tmp_path / 'x.png'}"
    ]


def test_a_checkpoint_that_is_written_during_an_evaluation_is_not_taken_for_the_measured_one(
    run, tmp_path, monkeypatch
):
    later, away = run / "checkpoints" / "step_00000004", tmp_path / "away"
    later.rename(away)
    real = evaluation.evaluate_flow

    def slow(*args, **options):
        away.rename(later)
        return real(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "evaluate_flow", slow)
        assert evaluate_run(run, **QUICK)["step"] == 2
    assert read_evaluation(run) is None  # of other weights than the ones that are loaded now
    assert evaluate_run(run, **QUICK)["step"] == 4 == read_evaluation(run)["step"]


def test_the_card_of_weights_that_are_not_averaged_has_no_measures_of_averaged_ones(run, tmp_path):
    evaluate_run(run, **QUICK)
    experiments.export(run, tmp_path / "out", ema=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "trained, not averaged, ones of step 4" in card and "Nothing has been measured yet" in card


@pytest.mark.parametrize("name", ["optimizer.safetensors", "optimizer.json", "method.safetensors", "flow.safetensors"])
def test_damage_to_other_files_does_not_cost_the_averaged_weights(name, run, finished):
    harm(run / "checkpoints" / "step_00000004" / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(fm.load(run), finished[1].ema)
    with pytest.warns(UserWarning, match=f"step_00000004 is damaged: {name} .*going back to step_00000002"):
        assert checkpoint.latest(run / "checkpoints")[1]["step"] == 2


def noticed(read, whole, file):
    """Whether a read gives the written content, or names the damaged file in an error or a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read()
        except ValueError as error:
            return str(file) in str(error)
    without = {name: found[name] for name in whole if name in found} if isinstance(whole, dict) else found
    return without == whole or any(str(file) in str(one.message) for one in caught)


def test_every_flipped_bit_of_a_config_is_seen(run):
    file = run / "config.json"
    whole = {name: value for name, value in read_config(run).items() if name != "checksum"}
    for bit in flips(file, 37):
        assert noticed(lambda: read_config(run), whole, file), bit
    assert noticed(lambda: read_config(run), whole, Path("nothing"))


def test_every_flipped_bit_of_metrics_is_seen(run):
    """A flipped bit in the key of the checksum leaves an unknown entry."""
    file, whole = run / "metrics.jsonl", read_metrics(run)
    assert len(whole) == 4 and all("checksum" not in row for row in whole)

    def read():
        return [{name: row[name] for name in whole[0] if name in row} for row in read_metrics(run)]

    for bit in flips(file, 5):
        assert noticed(read, whole, file), bit


def test_every_flipped_bit_of_an_evaluation_is_seen(run):
    file = run / "evaluation.json"
    write_evaluation(file, RESULT)
    assert unsealed(read_evaluation(run)) == (RESULT, True)
    for bit in flips(file, 3):
        assert noticed(lambda: read_evaluation(run) or {}, RESULT, file), bit


def test_an_edit_is_accepted_once_its_checksum_is_removed(run):
    config, measured = run / "config.json", run / "evaluation.json"
    write_evaluation(measured, RESULT)
    for file, change in ((config, {"notes": {"by": "hand"}}), (measured, {"metric": "mine"})):
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.warns(UserWarning, match=r'config\.json has changed .* To accept an edit, remove the entry "checksum"'):
        assert read_config(run)["notes"] == {"by": "hand"}
    with pytest.warns(UserWarning, match=r'evaluation\.json has changed .* remove the entry "checksum"'):
        assert read_evaluation(run) is None
    for file in (config, measured):
        content = json.loads(file.read_text())
        del content["checksum"]
        file.write_text(json.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_config(run)["notes"] == {"by": "hand"} and read_evaluation(run)["metric"] == "mine"


def test_every_flipped_bit_of_a_classifier_is_seen(tmp_path):
    torch.manual_seed(0)
    file, whole = tmp_path / "classifier.safetensors", Classifier((1, 4, 4), 3)
    save_classifier(whole, file)

    def read():
        return {name: value.tolist() for name, value in load_classifier(file).state_dict().items()}

    expected = {name: value.tolist() for name, value in whole.state_dict().items()}
    assert read() == expected
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    for bit in itertools.chain(flips(file, 13, 0, header), flips(file, 30011, header)):
        assert noticed(read, expected, file), bit


def test_every_flipped_bit_of_a_cache_is_seen(tmp_path):
    """Of its manifest, of its texts and of every shard."""
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    tables = {
        "texts": Content(2, 2, lambda rows: {"text": torch.tensor([[1.0], [2.0]])}),
        "rows": Content(
            8,
            4,
            lambda rows: {
                "x0": x[rows.start : rows.stop],
                "held": torch.tensor([False, False, False, True]),
                "prompt": torch.arange(4) % 2,
            },
        ),
    }
    about = {"name": "n", "shape": [3], "kind": "vectors", "classes": None, "class_names": None, "levels": None}
    folder = tmp_path / "cache"
    make_cache(folder, {"from": "here"}, lambda: about | {"moments": False}, ["a", "b"], tables)

    def read():
        data = fm.data.load(folder)
        batch, held = data.draw(6), data.held_out(2)
        parts = [batch.x0, held.x0, batch.given["text"], data.prompts.index]
        return {"rows": [part.tolist() for part in parts], "texts": list(data.prompts.texts), "shape": data.shape}

    whole = read()
    for file in sorted(folder.iterdir()):
        for bit in flips(file, 17):
            assert noticed(read, whole, file), (file, bit)
    assert read() == whole
