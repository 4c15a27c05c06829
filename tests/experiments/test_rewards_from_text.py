"""The reward of a class, by the classifier of a run or of a file, and functions of your own."""

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.cli.own_method import reward_named
from flowmaps.evaluate.features import Classifier, load_classifier, save_classifier
from flowmaps.experiments.rewards_from_text import class_of, reward_of
from flowmaps.experiments.run_data import run_data

QUIET = {"steps": 1, "width": 8, "depth": 1, "batch_size": 8, "progress_bar": False, "trackers": (), "sample_every": 0}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return experiments.train("digits", out=tmp_path_factory.mktemp("runs") / "digits", **QUIET).folder


def test_a_class_by_the_classifier_of_the_run(digits):
    said = []
    reward = reward_of("label:7", digits, say=said.append)
    assert len(said) == 1 and "Training a classifier on the labels of digits" in said[0]
    classifier = load_classifier(digits / "classifier.safetensors")
    rows = fm.data.load("digits").held_out(64)
    wanted = classifier(rows.x0).log_softmax(1)[:, 7]
    assert torch.equal(reward(rows.x0), wanted)
    assert bool((wanted[rows.label == 7].exp() > 0.5).all())
    assert float((wanted[rows.label != 7].exp() < 0.5).double().mean()) > 0.9
    reward_of("label:7", digits, say=said.append)  # it is there now
    assert len(said) == 1


def test_a_class_by_a_classifier_of_a_file(digits, tmp_path):
    torch.manual_seed(1)
    other = Classifier((1, 8, 8), 12).eval()
    save_classifier(other, tmp_path / "other.safetensors")
    x = torch.randn(5, 1, 8, 8)
    reward = reward_of("label:11", digits, classifier=tmp_path / "other.safetensors")
    assert torch.equal(reward(x), other(x).log_softmax(1)[:, 11])


def test_rows_of_a_table_are_classified_in_the_units_of_training(tmp_path):
    """Steering gives a reward rows in the units of the data, and the classifier has learned standardised ones."""
    generator = np.random.default_rng(0)
    label = np.arange(200) % 2
    x = 1000 + 50 * generator.standard_normal((200, 3)) + 400 * label[:, None]
    np.savez(tmp_path / "table.npz", x=x.astype(np.float32), label=label)
    run = experiments.train(tmp_path / "table.npz", out=tmp_path / "run", **QUIET).folder
    reward = reward_of("label:1", run)
    found = reward(torch.tensor(x, dtype=torch.float32)).exp()
    assert bool((found[label == 1] > 0.9).all()) and bool((found[label == 0] < 0.1).all())


def test_a_function_is_a_reward(digits):
    bright = lambda x0: x0.sum((1, 2, 3))  # noqa: E731
    assert reward_of(bright, digits) is bright


def test_names_and_numbers_of_classes():
    about = {"classes": 3, "class_names": ["1", "2", "cat"]}
    assert class_of("cat", about, 3) == 2 and class_of("0", about, 3) == 0
    with pytest.warns(UserWarning, match="label:1 is the class of number 1, whose name is 2; .* has the number 0"):
        assert class_of("1", about, 3) == 1
    with pytest.raises(ValueError, match="no class 'cad' .did you mean cat"):
        class_of("cad", about, 3)
    with pytest.raises(ValueError, match="classes are numbers, 0 to 4"):  # names of the run are not those of the file
        class_of("cat", about, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label", "a reward is label:7"),
        ("label:", "a reward is label:7"),
        ("lable:7", "a reward is label:7"),
        ("label:10", "knows the classes 0 to 9"),
        ("label:-1", "knows the classes 0 to 9"),
        ("label:1.5", "there is no class '1.5'"),
        ("label:cat", "there is no class 'cat'"),
    ],
)
def test_wrong_texts_are_refused(text, said, digits):
    with pytest.raises(ValueError, match=said):
        reward_of(text, digits)


def test_wrong_classifiers_are_refused(digits, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*none.safetensors with a classifier"):
        reward_of("label:7", digits, classifier=tmp_path / "none.safetensors")
    with pytest.raises(TypeError, match="classifier"):
        reward_of("label:7", digits, classifier=3)
    with pytest.raises(ValueError, match="is for the reward of a class"):
        reward_of(lambda x0: x0.sum((1, 2, 3)), digits, classifier="a.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="holds no classifier.*give a file") as refused:
        reward_of("label:7", digits, classifier=tmp_path / "broken.safetensors")
    assert "delete" not in str(refused.value) and "remove" not in str(refused.value)  # it is the user's own file
    save_classifier(Classifier((1, 16, 16), 10), tmp_path / "large.safetensors")
    with pytest.raises(ValueError, match=r"takes rows of shape \(1, 16, 16\).*\(1, 8, 8\)"):
        reward_of("label:7", digits, classifier=tmp_path / "large.safetensors")
    with pytest.raises(TypeError, match="a reward is a function"):
        reward_of(3, digits)


def test_data_without_labels_have_no_classifier(tmp_path):
    run = experiments.train("gaussian", out=tmp_path / "run", **QUIET).folder
    with pytest.raises(ValueError, match="needs images, or vectors .D,., with labels"):
        reward_of("label:0", run)
    np.save(tmp_path / "images.npy", np.zeros((20, 1, 4, 4), np.float32) + np.linspace(-1, 1, 20)[:, None, None, None])
    run = experiments.train(tmp_path / "images.npy", out=tmp_path / "images", **QUIET).folder
    with pytest.raises(ValueError, match="needs images, or vectors .D,., with labels"):
        reward_of("label:0", run)
    fm.experiments.evaluation.run_classifier(run, run_data(run))  # of features alone, as evaluations keep it
    with pytest.raises(ValueError, match="needs images, or vectors .D,., with labels"):
        reward_of("label:0", run)


def test_a_function_of_a_module_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_rewards_here.py").write_text("def bright(x0):\n    return x0.flatten(1).sum(1)\n\nfive = 5\n")
    assert reward_named("own_rewards_here:bright")(torch.ones(2, 3)).tolist() == [3.0, 3.0]
    assert reward_named("label:7") == "label:7"
    with pytest.raises(ValueError, match="no function 'brigt' .did you mean bright"):
        reward_named("own_rewards_here:brigt")
    with pytest.raises(ValueError, match="no function 'five'"):
        reward_named("own_rewards_here:five")
    with pytest.raises(ValueError, match="a reward of your own is MODULE:NAME"):
        reward_named("own_rewards_here.py:bright")
