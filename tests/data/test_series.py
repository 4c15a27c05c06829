"""Time series against their formula: templates, moments with standard errors, correlation of the noise, classes."""

import math

import pytest
import torch

from flowmaps.data import load
from flowmaps.data.series import BUMPS, SMOOTH, template


def test_shape_classes_and_seeds():
    data = load("series")
    assert data.shape == (40,) and data.kind == "vectors" and data.classes == 10 and data.size is None
    rows = data.draw(4000, seed=1)
    counts = torch.bincount(rows.label, minlength=10).double()
    assert float((counts - 400).abs().max()) < 6 * math.sqrt(4000 * 0.09)
    assert torch.equal(data.draw(50, seed=2).x0, data.draw(50, seed=2).x0)
    assert not torch.equal(data.draw(50, seed=2).x0, data.held_out(50, seed=2).x0)
    assert load("series", length=64).draw(3).x0.shape == (3, 64)


def test_without_noise_a_row_is_a_template_moved_stretched_and_tilted():
    rows = load("series", noise=0.0, length=80).draw(400)
    tau = torch.linspace(-1, 1, 80, dtype=torch.float64)
    for number in range(10):
        x = rows.x0[rows.label == number][:3].double()
        w, m = torch.meshgrid(torch.linspace(0.35, 0.65, 61), torch.linspace(-0.65, 0.65, 131), indexing="ij")
        u = (tau - m.reshape(-1, 1)) / w.reshape(-1, 1)
        shapes = template(u, number)
        design = torch.stack((shapes, tau.expand_as(shapes)), -1)  # scale and shear by least squares, for each (w, m)
        for row in x:
            fit = torch.linalg.lstsq(design, row[None, :, None].expand(len(design), -1, 1)).solution
            error = ((design @ fit)[..., 0] - row).square().mean(1)
            best = int(error.argmin())
            assert float(error[best].sqrt()) < 0.03
            assert 0.65 < float(fit[best, 0]) < 1.35 and abs(float(fit[best, 1])) < 0.55


def test_templates_are_different_and_end_near_zero():
    u = torch.linspace(-1, 1, 201, dtype=torch.float64)
    shapes = torch.stack([template(u, k) for k in range(len(BUMPS))])
    assert len(shapes) == 10 and float(shapes[:, [0, -1]].abs().max()) < 0.06
    apart = torch.cdist(shapes, shapes) / math.sqrt(201) + 9 * torch.eye(10)
    assert float(apart.min()) > 0.12


def test_noise_has_its_variance_and_its_correlation():
    n, noise = 4000, 0.3
    loud, quiet = (load("series", noise=value).draw(n).x0.double() for value in (noise, 0.0))
    difference = (loud - quiet) / noise  # the same seed: the same templates
    assert float((difference.var(0) - 1).abs().max()) < 6 * math.sqrt(2 / n)
    for lag in (1, 2, 4, 12):
        found = (difference[:, lag:] * difference[:, :-lag]).mean(0)
        expected = math.exp(-((lag / SMOOTH) ** 2) / 4)
        assert float((found - expected).abs().max()) < 6 * math.sqrt(2 / n) + 0.002


def test_a_finite_set_has_other_held_out_rows():
    data = load("series", rows=500, seed=3)
    assert data.size == 500 and len(data.source.test) == 100
    train, test = (table.x for table in (data.source.train, data.source.test))
    assert float(torch.cdist(test, train).min()) > 0
    again, other = load("series", rows=500, seed=3), load("series", rows=500, seed=4)
    assert torch.equal(again.source.train.x, train) and not torch.equal(other.source.train.x, train)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 15}, "length must be"),
        ({"noise": -0.1}, "noise"),
        ({"rows": 1}, "rows must be"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        load("series", **options)
