"""What guidance does, measured: accuracy, diversity and distance by scale, on samplers whose answers are known."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flowmaps.data import load
from flowmaps.evaluate import train_classifier
from flowmaps.evaluate.guided import GuidedSampler, accuracy, by_scale, diversity
from flowmaps.path import linear
from flowmaps.steps import euler, jump


def test_diversity_of_uniform_rows_is_a_third():
    """E|X - X'| = 1/3 on [0, 1]; the standard errors are as large as the spread of many estimates."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(300, 40, 1, generator=generator, dtype=torch.float64)
    found = [diversity(x, torch.zeros(40, dtype=torch.long)) for x in rows]
    values = torch.tensor([estimate.value for estimate in found], dtype=torch.float64)
    assert float(values.mean()) == pytest.approx(1 / 3, abs=4 * float(values.std()) / math.sqrt(300))
    typical = math.sqrt(sum(estimate.stderr**2 for estimate in found) / 300)
    assert typical == pytest.approx(float(values.std()), rel=0.15)


def test_classes_count_alike_and_are_not_mixed():
    """Two rows 1 apart, three rows 3 apart from each other (on a triangle), far away; one row alone."""
    triangle = 3 * torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]]) + 100
    rows = torch.cat((torch.tensor([[0.0, 0.0], [0.0, 1.0]]), triangle, torch.tensor([[-50.0, 0.0]])))
    assert diversity(rows, torch.tensor([4, 4, 7, 7, 7, 9])).value == pytest.approx((1 + 3) / 2, rel=1e-5)
    with pytest.raises(ValueError, match="at least two of its rows"):
        diversity(rows[:2], torch.tensor([0, 1]))


@pytest.mark.parametrize(("share", "n"), [(1.0, 50), (0.9, 200), (0.0, 3)])
def test_the_error_of_an_accuracy_is_the_binomial_one_and_never_zero(share, n):
    found = accuracy(SimpleNamespace(accuracy=lambda x, label: share), torch.zeros(n, 1), torch.zeros(n).long())
    assert found.value == share and found.stderr > 0
    assert found.stderr == pytest.approx(math.sqrt(share * (1 - share) / n), abs=1 / n)


class Drawer:
    """Draws held-out digits of the class asked for; with the share 1 - 1/scale of the class after it."""

    path, like, network = linear, torch.empty(0), nn.Identity()

    def __init__(self):
        self.digits = load("digits").held_out(360)
        self.places = torch.stack([(self.digits.label == k).nonzero().flatten()[:35] for k in range(10)])

    def given(self, label, guidance):
        other = copy.copy(self)
        other.label, other.guidance = label, guidance
        return other

    def __call__(self, x, s, t):
        wrong, which = (self.network(x).flatten(1)[:, :2] * 1e4 % 1).unbind(1)
        label = torch.where(wrong < 1 - 1 / self.guidance, (self.label + 1) % 10, self.label)
        return self.digits.x0[self.places[label, (which * 35).long()]]

    def velocity(self, x, t):
        return x - self(x, t, 0.0)


@pytest.fixture(scope="module")
def found():
    flow, data = Drawer(), load("digits")
    samplers = [
        GuidedSampler(name, 1, step, w, flow, flow, {"guidance": torch.tensor([w])}, run, run is not None)
        for name, step, run in (("jump", jump, None), ("euler", euler, "other"))
        for w in (1.0, 2.0)
    ]
    return by_scale(samplers, data, train_classifier(data, steps=60), n=128, draws=4)


def test_samples_of_the_data_score_as_the_data(found):
    """At scale 1 the drawer gives held-out images, each with its label."""
    row, data = found["rows"][0], found["data"]
    assert (row["sampler"], row["steps"], row["scale"]) == ("jump", 1, 1.0)
    for key in ("accuracy", "diversity"):
        assert abs(row[key] - data[key]) < 4 * math.hypot(row[f"{key}_stderr"], data[f"{key}_stderr"]), key
    assert row["distance"] < data["distance"] + 4 * data["distance_stderr"]


def test_the_scale_reaches_the_sampler(found):
    """At scale 2 half of its images are of another class."""
    assert found["rows"][1]["accuracy"] == pytest.approx(found["data"]["accuracy"] / 2, abs=0.08)
    assert found["rows"][1]["diversity"] > found["rows"][0]["diversity"] + 5 * found["rows"][0]["diversity_stderr"]


def test_the_reference_stands_beside(found):
    """One Euler step of x - image is the same image; distances to the reference are from other noise, so not 0."""
    jumps, others = found["rows"][:2], found["rows"][2:]
    for mine, theirs in zip(jumps, others, strict=True):
        assert theirs["run"] == "other" and theirs["accuracy"] == mine["accuracy"]
        assert mine["to_reference"] == pytest.approx(theirs["to_reference"], rel=1e-6) and mine["to_reference"] > 0.1


def test_it_is_json_and_says_what_it_measured(found):
    assert json.loads(json.dumps(found)) == found
    assert set(found["measures"]) == {"accuracy", "diversity", "distance", "to_reference"}
    assert found["samples"] == 128 and found["draws"] == 4
