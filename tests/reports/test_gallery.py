"""The states of the slider and the tabs of the gallery."""

import base64
import re

import numpy as np
import torch

import flowmaps as fm
from flowmaps.reports import gallery, way
from flowmaps.reports.sections import Drawn, Material


def test_points_become_a_path_with_a_dot_for_each():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 0.5], [1.1, 0.0], [0.0, float("nan")]])
    assert gallery.dots(x, 1.0, (0.0, 0.0)) == "M500 500h0M1000 0h0M0 250h0"
    assert gallery.dots(x + 5, 1.0, (5.0, 5.0)).count("M") == 3


def test_only_tabs_without_samples_are_no_gallery():
    material = Material(fm.FlowMap(fm.networks.MLP(2, 8, 1)), fm.data.load("two_moons"), {"rows": []}, {})
    assert gallery.section(material, []) is None
    found = gallery.section(material, [Drawn(torch.zeros(3, 2), "1 jump", ""), Drawn(torch.randn(9, 2), "real", "")])
    assert [tab.title for tab in found.tabs] == ["1 jump", "real"] and found.count == 0


def test_the_slider_of_points_has_the_states_and_the_ends():
    data = fm.data.load("two_moons")
    states = [torch.rand(4, 2) for _ in way.SLIDER_TIMES]
    ends = [x + 0.1 for x in states]
    slider = way._points(data, states, ends)
    read = np.frombuffer(base64.b64decode(slider.states), "<i2").reshape(len(states), 2, 4, 2) / slider.unit
    width = 0.1 / (read[3, 1] - read[3, 0])
    assert np.allclose(width, width.mean(), rtol=0.01)  # one scale, for both axes
    assert np.allclose(np.diff(read[3, 0], axis=0) * width.mean(), np.diff(states[3].numpy(), axis=0), atol=0.002)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", slider.data)


def test_the_slider_of_images_reduces_large_ones():
    class Wide:
        to_pixels = staticmethod(lambda x: x)

    rows = [torch.full((2, 1, 100, 100), k / 20) for k in range(21)]
    slider = way._images(Wide(), rows, rows)
    from io import BytesIO

    from PIL import Image

    found = Image.open(BytesIO(base64.b64decode(slider.sprite.source.partition(",")[2])))
    assert found.size == (2 * 2 * 50, 21 * 50) and found.format == "WEBP"
    assert abs(found.getpixel((20, 50 * 10 + 25))[0] - 128) < 8 and slider.count == 2
