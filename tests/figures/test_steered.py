"""The picture of steered samples: its panels, and the colour of pixels that were not measured."""

import matplotlib.colors
import numpy as np
import pytest
import torch

from flowmaps.figures.steered import HOLE, steered

X = torch.rand(6, 1, 4, 4)
MEAN, STD = X.mean(0), X.std(0)


def panels(made):
    """The images of a figure by their titles."""
    return {axes.get_title(loc="left"): axes.images[0].get_array() for axes in made.axes if axes.images}


def test_measurement_and_truth_are_shown():
    measured = torch.rand(1, 2, 2)
    found = panels(steered(X, MEAN, STD, measurement=measured, truth=X[0]))
    assert set(found) == {"6 samples", "measurement", "truth", "mean of samples", "spread of samples"}
    assert found["measurement"].shape == (2, 2, 3) and np.allclose(found["truth"][..., 0], X[0, 0])
    assert np.allclose(found["mean of samples"][..., 2], MEAN[0]) and np.allclose(found["spread of samples"], STD[0])


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_were_not_measured_have_a_colour(channels):
    measured = torch.rand(channels, 4, 4)
    measured[:, 2:] = torch.nan
    x = torch.rand(6, channels, 4, 4)
    found = panels(steered(x, x.mean(0), x.std(0), measurement=measured))
    image = found["measurement (unknown: orange)"]
    assert np.allclose(image[2:], matplotlib.colors.to_rgb(HOLE)) and np.isfinite(image).all()
    assert np.allclose(image[:2, :, 0], measured[0, :2])


def test_a_reward_has_no_measurement(tmp_path):
    found = panels(steered(X, MEAN, STD, path=tmp_path / "x.png"))
    assert set(found) == {"6 samples", "mean of samples", "spread of samples"}
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
