"""Histograms of log-densities: the axis, strips that are far away, and strips without densities."""

import math

import pytest
import torch
from PIL import Image

from flowmaps.figures.densities import densities


def texts(axis):
    """The texts in a panel."""
    return [text.get_text() for text in axis.texts]


@pytest.fixture
def near():
    """Log-densities around 0 and 20."""
    torch.manual_seed(0)
    return {"held-out": torch.randn(100).tolist(), "training": (20 + torch.randn(100)).tolist()}


def test_the_axis_shows_what_is_near_and_names_what_is_far(near, tmp_path):
    values = {"a": {**near, "random": [-9000.0, -9010.0], "permuted": [-30.0, -35.0], "above": [5000.0, 5000.0]}}
    figure = densities(values, tmp_path / "x.png", name="log p(x)")
    axis = figure.axes[0]
    low, high = axis.get_xlim()
    assert -50 < low < -35 and 20 < high < 40
    assert "far away: mean -9,005" in texts(axis) and "far away: mean 5,000" in texts(axis)
    assert [label.get_text() for label in axis.get_yticklabels()] == list(values["a"])
    assert "log p(x) in nats" in axis.get_xlabel() and Image.open(tmp_path / "x.png").size[0] > 500


def test_strips_without_densities_are_named(near):
    axis = densities({"a": {**near, "random": [], "folded": [math.nan]}}).axes[0]
    assert texts(axis).count("no density") == 2


def test_a_panel_for_each_estimator_up_to_six(near):
    assert len(densities({f"{k}": near for k in range(9)}).axes) == 6


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 3.0], [-1e30, 1e30]])
def test_values_that_are_alike_or_none(values):
    assert densities({"a": {"held-out": values}}).axes


def test_no_estimators_are_refused():
    with pytest.raises(ValueError, match="at least one estimator"):
        densities({})
