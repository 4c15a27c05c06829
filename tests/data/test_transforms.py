"""Random transforms of batches: what they do, and that neither resuming nor sharing changes them."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flowmaps.data import as_data, changes, load
from flowmaps.data.transforms import (
    Dequantise,
    GuidanceScales,
    LabelDropout,
    dequantised,
    drawn_from_moments,
    mirrored,
    transformed,
)

SHARES = [slice(None), slice(1, None, 3)]


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    return as_data((torch.rand(50, 1, 4, 4, generator=g) * 2 - 1, torch.arange(50) % 10))


def first(data, rows=slice(None), start=0):
    return next(data.batches(40, seed=3, start=start, rows=rows))


def test_labels_are_left_out_with_their_probability(data):
    batches = transformed(data, LabelDropout(0.25, null=10)).batches(40, seed=1)
    label = torch.cat([next(batches).label for _ in range(100)])
    share = (label == 10).double().mean().item()
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / len(label)) ** 0.5  # four standard errors
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 2"):
        LabelDropout(2, null=10)
    with pytest.raises(ValueError, match="no labels to leave out"):
        first(transformed(as_data(torch.zeros(50, 3)), LabelDropout(0.1, null=10)))


def test_mirrored_images_are_themselves_or_their_mirror(data):
    plain, turned = first(data).x0, first(transformed(data, mirrored)).x0
    same, other = ((turned == image).flatten(1).all(1) for image in (plain, plain.flip(-1)))
    assert (same | other).all() and same.any() and other.any()


def test_rows_of_moments_are_normal(data):
    mean, std = torch.tensor([2.0, -1.0])[:, None, None], torch.tensor([0.5, 0.1])[:, None, None]
    moments = torch.cat([mean, std]).expand(50, 4, 30, 30)
    latents = drawn_from_moments(as_data(moments))
    assert latents.shape == (2, 30, 30) and latents.kind == "vectors"
    for x in (first(latents).x0, latents.draw(30).x0, latents.held_out(9).x0):
        scaled = ((x - mean) / std).double().flatten()
        assert abs(scaled.mean()) < 4 / len(scaled) ** 0.5 and abs(scaled.var() - 1) < 4 * (2 / len(scaled)) ** 0.5
    assert not torch.equal(first(latents).x0, first(latents, start=1).x0)
    with pytest.raises(ValueError, match="as many standard deviations"):
        drawn_from_moments(as_data(torch.zeros(50, 3, 4, 4)))


@pytest.mark.parametrize("rows", SHARES)
def test_a_share_of_a_batch_is_changed_as_the_whole_is(data, rows):
    moments = as_data((torch.rand(50, 2, 4, 4), torch.arange(50) % 10))
    both = transformed(drawn_from_moments(moments), LabelDropout(0.5, 10))
    for some in (transformed(data, mirrored, LabelDropout(0.5, 10)), both):
        whole, resumed = list(zip(range(3), some.batches(40, seed=3), strict=False))[2][1], first(some, rows, start=2)
        assert torch.equal(whole.x0[rows], resumed.x0) and torch.equal(whole.label[rows], resumed.label)


def test_changes_of_a_changed_source_have_other_numbers(data):
    """The same change twice would otherwise turn every image back."""
    plain, twice = first(data).x0, first(transformed(transformed(data, mirrored), mirrored)).x0
    assert not torch.equal(plain, twice)


@pytest.mark.parametrize("held_in_memory", [True, False])
def test_latents_are_read_from_mapped_files(tmp_path, monkeypatch, held_in_memory):
    if not held_in_memory:
        monkeypatch.setattr("flowmaps.data.arrays.IN_MEMORY", 0)
    x, label = torch.randn(60, 4, 8, 8).half(), torch.arange(60) % 7
    save_file({"x": x, "label": label}, tmp_path / "a.safetensors")
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "y.npy", label.numpy())
    files = [load(tmp_path / "a.safetensors"), load(tmp_path / "x.npy", labels="y.npy")]
    for data in files:
        assert data.shape == (4, 8, 8) and data.kind == "vectors" and data.classes == 7
        rows = data.source.train.rows
        assert hasattr(rows, "array") != held_in_memory
        assert torch.equal(rows.take(torch.tensor([5, 3])).x0, x[[5, 3]].float())
    assert torch.equal(files[0].draw(9).label, files[1].draw(9).label)
    if not held_in_memory:
        assert isinstance(files[1].source.train.rows.array, np.memmap)
    halved = load(tmp_path / "a.safetensors", moments=True, classes=9)
    assert halved.shape == (2, 8, 8) and halved.classes == 9


def test_safetensors_that_numpy_cannot_read(tmp_path):
    save_file({"x": torch.zeros(3, 2, dtype=torch.bfloat16)}, tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"none")
    for name in "bc":
        with pytest.raises(ValueError, match=f"{name}.safetensors cannot be read as arrays of numbers"):
            load(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 3.5])
def test_scales_of_guidance_have_their_density(data, beta):
    """p(w) ~ w^-beta on [1, 8]: the mean, by quadrature, within four standard errors."""
    batches = transformed(data, GuidanceScales(1.0, 8.0, beta)).batches(40, seed=1)
    w = torch.cat([next(batches).given["guidance"] for _ in range(100)]).double()
    grid = torch.linspace(1, 8, 100_001, dtype=torch.float64)
    mean = (grid ** (1 - beta)).mean() / (grid**-beta).mean()
    assert abs(w.mean() - mean) < 4 * w.std() / len(w) ** 0.5 and 1 <= w.min() < 1.05 and 5 < w.max() <= 8


def test_intervals_of_guidance_and_rows_without_any(data):
    with_null = (LabelDropout(0.5, null=10), GuidanceScales(2, 4, 0, {"label": 10}, ((0.0, 0.3), (0.6, 0.8))))
    batch = first(transformed(data, *with_null))
    null, given = batch.label == 10, batch.given
    assert null.any() and not null.all() and given.keys() == {"guidance", "guidance_from", "guidance_to"}
    for name, off, low, high in (("guidance", 1, 2, 4), ("guidance_from", 0, 0, 0.3), ("guidance_to", 1, 0.6, 0.8)):
        assert bool((given[name][null] == off).all())
        kept = given[name][~null]
        assert low <= kept.min() < low + 0.2 * (high - low) and high - 0.2 * (high - low) < kept.max() <= high
    share = first(transformed(data, *with_null), rows=slice(1, None, 3))
    assert all(torch.equal(share.given[name], given[name][1::3]) for name in given)
    for wrong in ({"low": 0, "high": 2}, {"low": 3, "high": 2}):
        with pytest.raises(ValueError, match="between two positive numbers"):
            GuidanceScales(**wrong)
    with pytest.raises(ValueError, match="in order: got"):
        GuidanceScales(1, 2, interval=((0.0, 0.6), (0.5, 1.0)))
    with pytest.raises(ValueError, match="'text' by its null value"):
        first(transformed(data, GuidanceScales(1, 2, null={"text": torch.zeros(1, 3)})))


def test_the_names_of_version_0_1_are_still_there():
    assert (changes.WithGuidance, changes.WithoutLabel, changes.changed) == (GuidanceScales, LabelDropout, transformed)


def test_dequantised_training_images_fill_the_gaps_between_levels_and_held_out_ones_keep_them():
    data = load("digits")
    noisy = dequantised(data)
    width, x = 2 / 16, next(iter(noisy.batches(256, seed=0))).x0
    level = ((x + 1) / width).round() * width - 1
    noise = ((x - level) / width).flatten()
    assert level.min() == -1 and level.max() == 1  # rounding undoes it: the noise stays within half a level
    assert abs(float(noise.mean())) < 4 * (1 / 12) ** 0.5 / len(noise) ** 0.5  # 4 standard errors
    assert abs(float(noise.var()) - 1 / 12) < 4 * (1 / 180) ** 0.5 / len(noise) ** 0.5
    assert torch.equal(noisy.held_out(20, 0).x0, data.held_out(20, 0).x0)
    with pytest.raises(ValueError, match="number of levels"):
        dequantised(as_data(torch.zeros(50, 3)))
    with pytest.raises(ValueError, match="levels"):
        Dequantise(1)
