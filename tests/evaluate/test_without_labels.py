"""Measures beside the main one: random features, patches against a closed form, neighbours, and the classifier."""

import json
import math

import pytest
import torch
from torch import nn

from flowmaps import FlowMap, experiments, fit, methods
from flowmaps.data import as_data, load
from flowmaps.evaluate import (
    Features,
    classifier_features,
    evaluate,
    frechet_distance,
    random_features,
    random_patches,
    read_evaluation,
    recognition,
    train_classifier,
)
from flowmaps.evaluate.by_kind import measures
from flowmaps.evaluate.features import load_classifier, save_classifier
from flowmaps.evaluate.measures import draw
from flowmaps.figures import words
from flowmaps.networks import MLP
from flowmaps.runs.documents import check_evaluation

SMALL = {"n": 100, "draws": 2, "jumps": (1,), "ode_steps": ()}
MEAN = Features("mean of the pixels", lambda x: x.mean((2, 3)))


class Still(nn.Module):
    """A network without a velocity: its samples are the noise."""

    def forward(self, x, s, t, label=None):
        return torch.zeros_like(x)


def noise(n, shift=0.0, seed=0, side=8):
    """Images of independent normal pixels with mean `shift` and standard deviation 1 / 4."""
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) / 4 + shift


def blurred(n, seed=0):
    """Smooth images, of the pixel variance of `noise`."""
    x = nn.functional.avg_pool2d(noise(n, seed=seed, side=10), 3, stride=1)
    return x / x.std() / 4


def found(data, n=500, draws=4, features=MEAN):
    """The measures of a data set by key."""
    return {one.key: one for one in measures(data, draw(data, n, draws, seed=0), features)}


@pytest.fixture(scope="module")
def of_noise():
    return found(as_data(noise(12_000)))


def test_patches_are_squares_of_their_image_from_everywhere():
    x = torch.arange(400.0)[:, None, None, None] * 100 + torch.arange(42.0).reshape(1, 1, 6, 7)
    patches = random_patches(x, 3, seed=1)
    assert patches.shape == (400, 1, 3, 3)
    corner = patches[:, 0, 0, 0] - torch.arange(400.0) * 100
    assert torch.equal(patches - patches[:, :, :1, :1], x[:, :, :3, :3] - x[:, :, :1, :1])
    assert set(corner.long().tolist()) == {7 * row + column for row in range(4) for column in range(5)}
    assert torch.equal(patches, random_patches(x, 3, seed=1)) and not torch.equal(patches, random_patches(x, 3))
    assert torch.equal(random_patches(x, 6, seed=2)[..., 0], random_patches(x, 6, seed=2)[..., 0])
    for side in (0, 7):
        with pytest.raises(ValueError, match="side must be a whole number from 1 to 6"):
            random_patches(x, side)


def energy_between(shift, std):
    """The energy distance of N(0, std^2) and N(shift, std^2), in closed form."""

    def distance(mean, deviation):  # E|N(mean, deviation^2)|
        z = mean / deviation / math.sqrt(2)
        return deviation * math.sqrt(2 / math.pi) * math.exp(-(z**2)) + mean * math.erf(z)

    wide = std * math.sqrt(2)
    return 2 * distance(shift, wide) - 2 * distance(0, wide)


@pytest.mark.parametrize("shift", [0.1, 0.4])
def test_the_patch_distance_of_two_gaussians_is_the_closed_form(of_noise, shift):
    # along a unit direction u, patches of independent pixels are N(0, 1/16) and N(shift sum(u), 1/16)
    u = torch.randn(9, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = sum(energy_between(shift * float(along), 0.25) for along in (u / u.norm(dim=0)).sum(0)) / 128
    value, stderr = of_noise["patch_distance"].estimate(noise(2000, shift, seed=1))
    assert abs(value - expected) < 5 * stderr and value > 8 * stderr
    again, stderr = of_noise["patch_distance"].estimate(noise(2000, seed=1))
    assert abs(again) < 5 * stderr  # the same distribution: zero


def test_random_features_and_patches_see_texture_and_score_the_floor_without(of_noise):
    for key in ("random_distance", "patch_distance"):
        measure = of_noise[key]
        same, other = measure.estimate(noise(2000, seed=2)), measure.estimate(blurred(2000))
        assert abs(same.value - measure.floor.value) < 5 * math.hypot(same.stderr, measure.floor.stderr)
        assert other.value > measure.floor.value + 10 * math.hypot(other.stderr, measure.floor.stderr)
    main = of_noise["distance"]  # the mean of the pixels hardly sees a blur: the negative control
    assert main.estimate(noise(2000, 0.2, seed=2)).value > 100 * main.floor.value


def test_random_features_are_fixed_by_their_seed_and_white():
    data = as_data(noise(3000))
    first, again, other = (random_features(data, seed)(noise(500, seed=9)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert float(torch.cov(random_features(data)(data.draw(2000).x0).T).diagonal().max()) < 1.05
    labelled = load("digits")
    digits = labelled.held_out(64).x0
    assert not torch.allclose(
        random_features(labelled)(digits), classifier_features(train_classifier(labelled))(digits), atol=0.1
    )


def test_copies_of_training_images_have_ratio_zero_and_held_out_ones_one():
    data = as_data(noise(2500))
    near = found(data)["neighbour_ratio"]
    training, held_out = data.draw(500).x0, data.held_out(500).x0
    copied, fresh = near.estimate(training), near.estimate(noise(500, seed=5))
    assert copied.value < 0.02
    assert abs(near.estimate(held_out).value - 1) < 5 * near.estimate(held_out).stderr
    assert abs(fresh.value - 1) < 5 * fresh.stderr and near.floor.value == 1
    half = near.estimate(torch.cat((training[:250], noise(250, seed=6))))
    assert 0.4 < half.value < 0.6


def test_main_features_that_are_random_are_not_measured_twice():
    data = as_data(noise(300))
    assert "random_distance" not in found(data, 50, 2, classifier_features(train_classifier(data)))
    assert "random_distance" in found(data, 50, 2)
    large = as_data(noise(40, side=66))
    assert not {"random_distance", "patch_distance"} & found(large, 8, 2).keys()


@pytest.mark.parametrize(("side", "expected"), [(2, 2), (8, 3), (16, 5), (28, 7), (64, 7)])
def test_the_side_of_a_patch(side, expected):
    assert (
        f"patches of {expected} x {expected} pixels"
        in found(as_data(noise(60, side=side)), 10, 2)["patch_distance"].title
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("photos", {"size": 8, "patches": 2000}, 0.9),
        ("series", {}, 0.5),
        ("glyphs", {"fonts": ["cmr10", "cmsy10"]}, 0.4),
    ],
)
def test_the_new_sets_are_evaluated_with_a_classifier_of_known_accuracy(name, options, least, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = load(name, **options)
    result = evaluate(FlowMap(Still()), data, **SMALL)
    known = result["classifier"]
    assert least < known["accuracy"] <= 1 and 0 < known["commonest"] < known["accuracy"] and known["stderr"] > 0
    assert f"{known['accuracy']:.0%} of held-out rows" in words.recognition(result)
    [row] = result["rows"]
    keys = ["distance", "kernel_distance"]
    keys += ["random_distance", "patch_distance", "neighbour_ratio"] if data.kind == "images" else []
    for key in keys:  # noise of standard deviation 1 is none of these data
        level = result["floor" if key == "distance" else f"{key}_floor"]
        assert row[key] > level + 3 * row["stderr" if key == "distance" else f"{key}_stderr"]
    check_evaluation(json.loads(json.dumps(result)) | {"step": 1, "rows": []}, tmp_path)


@pytest.mark.slow
def test_a_classifier_of_labels_without_meaning_is_near_chance():
    x, label = noise(3000), torch.randint(4, (3000,))
    data = as_data((x, label))
    known = recognition(train_classifier(data), data)
    assert abs(known["accuracy"] - 0.25) < 6 * known["stderr"] and 0.25 < known["commonest"] < 0.35
    assert "near chance" in words.recognition({"classifier": known})
    digits = load("digits")
    assert "near chance" not in words.recognition({"classifier": recognition(train_classifier(digits), digits)})
    # always naming the commonest class is chance too, however often it is right
    skewed = {"accuracy": 0.96, "stderr": 0.005, "commonest": 0.96}
    assert "near chance" in words.recognition({"classifier": skewed})
    assert words.recognition({}) is None


def test_a_classifier_of_vectors_learns_and_survives_a_file(tmp_path):
    data = load("series")
    classifier = train_classifier(data)
    rows = data.held_out(2000)
    assert classifier.accuracy(rows.x0, rows.label) > 0.5
    save_classifier(classifier, tmp_path / "c.safetensors")
    assert torch.equal(load_classifier(tmp_path / "c.safetensors").features(rows.x0), classifier.features(rows.x0))
    # its features see a class that is missing
    features = classifier_features(classifier)
    some, others = features(rows.x0[rows.label < 9]), features(data.draw(1500, seed=3).x0)
    assert frechet_distance(some, others) > 2 * frechet_distance(features(rows.x0), others)


def test_a_run_on_vectors_keeps_its_classifier(tmp_path):
    data, run = load("series", rows=400), tmp_path / "run"
    flow = FlowMap(MLP((40,), width=8, depth=1))
    fit(flow, methods.flow_matching(), data, steps=2, batch_size=8, out=run, progress_bar=False)
    first = experiments.evaluate(run, n=40, draws=2, ode_steps=(1,))
    assert load_classifier(run / "classifier.safetensors").shape == (40,)
    again = read_evaluation(run)
    assert again["classifier"] == first["classifier"] and again["kernel_distance_floor"] is not None


def test_vectors_without_labels_have_no_classifier():
    result = evaluate(FlowMap(Still()), as_data(torch.randn(400, 5)), **SMALL)
    assert "classifier" not in result and list(result["measures"]) == ["distance"]
    with pytest.raises(ValueError, match="labels of several classes, and .* vectors of shape .* without labels"):
        train_classifier(as_data(torch.randn(40, 5)))


@pytest.mark.parametrize("entry", [{"accuracy": "good", "stderr": 0.1, "commonest": 0.1}, {"accuracy": 0.5}, 3])
def test_a_broken_entry_of_a_file_is_refused(entry, tmp_path):
    result = evaluate(FlowMap(Still()), as_data(torch.randn(200, 5)), **SMALL)
    with pytest.raises(ValueError, match="classifier"):
        check_evaluation(
            json.loads(json.dumps(result)) | {"step": 1, "classifier": entry}, tmp_path / "evaluation.json"
        )
