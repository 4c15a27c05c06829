"""The classifier: it learns, its features are white, it survives a file; images without labels; Inception's absence."""

import importlib.util

import pytest
import torch

from flowmaps.data import as_data, load
from flowmaps.evaluate import Classifier, classifier_features, inception, to_levels, train_classifier
from flowmaps.evaluate.features import load_classifier, save_classifier


@pytest.fixture(scope="module")
def classifier():
    return train_classifier(load("digits"))


def test_it_reads_digits_it_has_not_seen(classifier):
    """At least 90 %, where guessing gives 10 %."""
    batch = load("digits").held_out(360)
    assert classifier.accuracy(batch.x0, batch.label) > 0.9


def test_its_features_are_white_on_training_images(classifier):
    features = classifier_features(classifier)(load("digits").draw(1437).x0)
    covariance = torch.cov(features.T)
    assert features.shape == (1437, 64) and features.dtype == torch.float64
    assert float(features.mean(0).abs().max()) < 1e-3
    assert float((covariance - covariance.diagonal().diag()).abs().max()) < 1e-2
    assert float(covariance.diagonal().max()) < 1.01


def test_the_same_seed_gives_the_same_one_and_leaves_random_numbers_alone():
    before = torch.random.get_rng_state()
    first, second = (train_classifier(load("digits"), steps=2) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_file_and_back(classifier, tmp_path):
    save_classifier(classifier, tmp_path / "classifier.safetensors")
    again = load_classifier(tmp_path / "classifier.safetensors")
    x = load("digits").held_out(8).x0
    assert torch.equal(again.features(x), classifier.features(x))
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.safetensors"]


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "classifier.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no classifier of flowmaps"):
        load_classifier(tmp_path / "classifier.safetensors")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 17, 40), (1, 3, 3)])
def test_any_size_of_image(shape):
    network = Classifier(shape, 5)
    assert network(torch.zeros(2, *shape)).shape == (2, 5)
    assert network.features(torch.zeros(2, *shape)).shape == (2, 64)


def test_images_without_labels_get_random_features():
    data = as_data(torch.rand(50, 1, 8, 8) * 2 - 1)
    assert "random weights" in classifier_features(train_classifier(data)).name


def test_other_data_has_no_classifier():
    with pytest.raises(ValueError, match="needs images, or vectors .* and gaussian holds points"):
        train_classifier(load("gaussian"))


def test_inception_says_what_is_missing():
    if importlib.util.find_spec("torch_fidelity") is None:
        with pytest.raises(ImportError, match="pip install"):
            inception()


def test_rounding_to_levels():
    x = torch.tensor([-1.7, -1.0, -0.94, -0.93, 0.05, 0.07, 1.0, 2.0], dtype=torch.float64)
    expected = torch.tensor([-1, -1, -1, -0.875, 0, 0.125, 1, 1], dtype=torch.float64)
    assert torch.allclose(to_levels(x, 17), expected)
