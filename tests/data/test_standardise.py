"""Standardised rows, and the warnings for rows that are far from mean 0 and standard deviation 1."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import flowmaps as fm
from flowmaps.data import as_data, load
from flowmaps.data.load import load_again
from flowmaps.data.standardise import with_units
from flowmaps.data.transforms import LabelDropout, transformed
from flowmaps.serialise import build, describe

RNG = np.random.default_rng(0)
N = 2000
ERROR = 5 / math.sqrt(N)
"""Five standard errors of a mean of standard normal values."""


def saved(folder, rows, name="rows.npy"):
    np.save(folder / name, rows)
    return folder / name


def normal(*shape):
    return RNG.normal(size=(N, *shape))


TABLES = {
    "large column": normal(2) * [2e4, 1] + [5e4, 0],
    "small column": normal(2) * [1e-3, 1],
    "counts": RNG.poisson(3e3, size=(N, 3)),
    "int16 audio": (3000 * normal(40)).astype(np.int16),
    "bytes of a flat picture": RNG.integers(0, 256, size=(N, 12), dtype=np.uint8),
    "off-centre points": 0.2 * normal(2) + [8, -3],
    "one column": 1e6 + 1e4 * normal(),
    "half precision": (5 + 20 * normal(3)).astype(np.float16),
}


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_tables_of_files_are_standardised_and_come_back(tmp_path, rows):
    data = load(saved(tmp_path, rows))
    flat = torch.from_numpy(rows.astype(np.float64)).reshape(N, -1)
    x = torch.cat((data.draw(data.size).x0, data.held_out(N).x0))
    assert float(x.mean(0).abs().max()) < ERROR and float((x.std(0) - 1).abs().max()) < ERROR
    back = data.in_units(x).double()
    scale = flat.std(0)
    torch.testing.assert_close(back.sort(0).values / scale, flat.sort(0).values / scale, atol=2e-3, rtol=1e-5)


def test_statistics_are_of_the_training_rows(tmp_path):
    data = load(saved(tmp_path, normal(3) * 7 + 100))
    raw = load(tmp_path / "rows.npy", standardise=False)
    x = raw.draw(raw.size).x0.double()
    assert raw.units is None
    torch.testing.assert_close(torch.tensor(data.units.mean), x.mean(0), rtol=1e-6, atol=0, check_dtype=False)
    torch.testing.assert_close(
        torch.tensor(data.units.std), x.std(0, correction=0), rtol=1e-5, atol=0, check_dtype=False
    )
    assert data.size == raw.size and with_units(data, None).draw(9).x0.equal(raw.draw(9).x0)


def test_classes_keep_their_names_and_numbers(tmp_path):
    rows = "".join(f"{1000 + at},{-at},{'pqr'[at % 3]}\n" for at in range(60))
    (tmp_path / "rows.csv").write_text("a,b,kind\n" + rows)
    order = ["r", "s", "q", "p"]
    for standardise in (None, True, False):
        data = load(tmp_path / "rows.csv", labels="kind", class_names=order, standardise=standardise)
        assert data.class_names == tuple(order) and (data.units is None) is (standardise is False)
        for other in (data, with_units(data, fm.Units((7.0,), (3.0,))), as_data(data, standardise=True)):
            batch = other.draw(40)
            found = other.in_units(batch.x0)[:, 1].neg().round().long()
            assert batch.label.tolist() == [order.index("pqr"[at % 3]) for at in found.tolist()]
    raw = load(tmp_path / "rows.csv", labels="kind", standardise=False, class_names=order)
    assert as_data(raw, standardise=True).units == load(tmp_path / "rows.csv", labels="kind").units
    assert load_again(data.recipe, "config.json").units is None


@pytest.mark.parametrize("constant", [0.0, 0.1, -5e4, 1e-7])
def test_a_constant_column_comes_back_exactly(tmp_path, constant):
    rows = np.stack((normal() * 30, np.full(N, constant)), 1)
    data = load(saved(tmp_path, rows))
    assert data.draw(50).x0.isfinite().all() and data.draw(50).x0[:, 1].abs().max() == 0
    assert data.in_units(torch.randn(20, 2))[:, 1].equal(torch.full((20,), constant))


def test_many_alike_columns_share_a_mean_and_a_standard_deviation(tmp_path):
    sound = np.cumsum(RNG.normal(size=(300, 1500)), 1).astype(np.float32)
    sound = 9000 * (sound - sound.mean(1, keepdims=True)) / sound.std(1, keepdims=True)
    units = load(saved(tmp_path, sound.astype(np.int16))).units
    assert len(units.mean) == 1 and units.std[0] == pytest.approx(9000, rel=0.01)
    genes = RNG.normal(size=(300, 1500)) * np.logspace(-2, 3, 1500)
    assert len(load(saved(tmp_path, genes)).units.std) == 1500


def test_toys_pictures_and_latents_keep_their_numbers(tmp_path):
    for name in ("checkerboard", "eight_gaussians", "two_moons", "mixture", "digits"):
        assert load(name).units is None
    pictures = RNG.integers(0, 256, size=(40, 3, 8, 8), dtype=np.uint8)
    assert load(saved(tmp_path, pictures)).units is None
    assert load(saved(tmp_path, normal(4, 4, 4)[:50])).units is None
    with pytest.raises(ValueError, match=r"holds images, which lie in \[-1, 1\] and are not standardised"):
        load(saved(tmp_path, pictures), standardise=True)
    with pytest.raises(ValueError, match="mixture has a closed form"):
        load("mixture", standardise=True)


def test_latents_are_standardised_by_channel_if_asked(tmp_path):
    file = saved(tmp_path, normal(4, 2, 2) * np.array([5, 1, 0.1, 9]).reshape(4, 1, 1) + 2)
    with pytest.warns(UserWarning, match=r"mean (1\.9|2\.).* and standard deviation [45]\.\d+: .*standardise=True"):
        assert load(file).units is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load(file, standardise=True)
        assert load(file, standardise=False).units is None
    assert data.units.std == pytest.approx([5, 1, 0.1, 9], rel=0.05)
    assert float((data.draw(1000).x0.std((0, 2, 3)) - 1).abs().max()) < 0.05


def test_a_shared_standard_deviation_that_does_not_fit_is_said(tmp_path):
    series = normal(6, 5)[:200] * [1, 1, 1, 1, 500]
    with pytest.warns(UserWarning, match=r"feature 0 of rows.npy have standard deviations up to [45]\d\d.*first axis"):
        load(saved(tmp_path, series), kind="vectors", standardise=True)


def test_transforms_stay_above_the_units():
    x, y = torch.randn(300, 2) * 50 + 7, torch.arange(300) % 3
    data = transformed(as_data((x, y), standardise=True), LabelDropout(0.5, 3))
    batch = next(data.batches(200, seed=1))
    raw = next(with_units(data, None).batches(200, seed=1))
    assert batch.label.equal(raw.label) is False or (batch.label == 3).any()
    torch.testing.assert_close(data.in_units(batch.x0), raw.x0, rtol=1e-4, atol=1e-4)
    assert (raw.label == 3).any() and data.draw(9).label.max() < 3


GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(shape, generator=GENERATOR)


def grey(*shape):
    return torch.rand(shape, generator=GENERATOR)


FAR = {
    "large column": (drawn(500, 3) * torch.tensor([1, 2e4, 1]) + torch.tensor([0, 5e4, 0]), "feature 1 has mean"),
    "small column": (drawn(500, 3) * torch.tensor([1, 1, 1e-3]), "feature 2 has mean"),
    "off-centre points": (drawn(500, 2) + 6, "feature 0 has mean (5.9|6)"),
    "latents": (drawn(50, 4, 8, 8) * 5, "they have mean .* standard deviation [45]"),
    "sounds": (drawn(50, 1600) * 3000, "they have mean"),
    "one of many columns": (drawn(500, 200) + 30 * (torch.arange(200) == 7), r"feature 7 has mean (29\.\d+|30)"),
    "one of many columns, wide": (
        drawn(500, 200) * (1 + 14 * (torch.arange(200) == 7)),
        r"feature 7 has .* deviation 1\d",
    ),
    "a channel of volumes": (drawn(50, 2, 4, 4, 4) + 3.4 * torch.arange(2).reshape(2, 1, 1, 1), "feature 1 has mean 3"),
    "a channel of latents": (drawn(50, 4, 8, 8) * (1 - 0.97 * (torch.arange(4) == 3))[:, None, None], "feature 3 has"),
    "unit vectors": (torch.nn.functional.normalize(drawn(500, 512)), "standard deviation 0.04"),
}


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: x.numpy(), TensorDataset, lambda x: DataLoader(x, 40)])
@pytest.mark.parametrize("x, said", FAR.values(), ids=FAR)
def test_rows_in_python_keep_their_numbers_with_a_warning(x, said, wrap):
    with pytest.warns(UserWarning, match=said):
        data = as_data(wrap(x))
    assert data.units is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_data(wrap(x), standardise=False)
        standard = as_data(wrap(x), standardise=True)
    rows = standard.draw(40).x0
    assert rows.abs().max() < 8 and standard.in_units(rows).std() == pytest.approx(float(x.std()), rel=0.25)


PICTURES = {
    "grey levels": (grey(40, 3, 8, 8) * 255, r"reach from 0\.\d+ to 25\d.*: pass x / 127.5 - 1"),
    "12 bits": (grey(40, 1, 8, 8) * 4095, r"pass x / 2047.5 - 1"),
    "ImageNet": ((grey(40, 3, 8, 8) - 0.45) / 0.225, r"reach from -(1.99|2).* to 2.*ImageNet"),
    "[0, 1]": (grey(40, 3, 8, 8), r"reach from 0\.?\d* to (1|0\.99).*seem to lie in \[0, 1\]: pass 2 \* x - 1"),
    "[0, 1] resized": (grey(40, 3, 8, 8) * 1.06 - 0.03, r"reach from -0\.0.* to 1\.0.*seem to lie in \[0, 1\]"),
    "[-0.5, 0.5]": (grey(40, 3, 8, 8) - 0.5, r"reach from -0\.(5|49).* to 0\.(5|49).* alone, a small part"),
    "[-1, 0]": (grey(40, 1, 8, 8) - 1, "alone, a small part of it: scale them"),
    "dark [0, 1]": (grey(40, 1, 8, 8) * 0.4, r"to 0\.(4|39).* alone, a small part"),
    "dark first": (grey(40, 3, 8, 8) * (torch.arange(40) > 0)[:, None, None, None], r"seem to lie in \[0, 1\]"),
}


@pytest.mark.parametrize("wrap", [lambda x: x, TensorDataset, lambda x: DataLoader(x, 10)])
@pytest.mark.parametrize("x, said", PICTURES.values(), ids=PICTURES)
def test_pictures_of_another_range_are_said(x, said, wrap):
    with pytest.warns(UserWarning, match=said):
        as_data(wrap(x))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("scale", "shift", "said"),
    [
        (1.0, 0.0, r"reach from .* they seem to lie in \[0, 1\]: load them with value_range=\(0, 1\)"),
        (0.4, 0.0, r"to 0\.(4|39)\d* alone, a small part of it: load them with value_range="),
        (2.0, -1.0, None),
    ],
)
def test_pictures_of_files_of_another_range_are_said(scale, shift, said, layout, tmp_path):
    x = grey(40, 3, 8, 8) * scale + shift
    np.save(tmp_path / "x.npy", (x if layout == "NCHW" else x.movedim(1, -1)).numpy())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        data = load(tmp_path / "x.npy")
        load(tmp_path / "x.npy", value_range=(-2, 2))
        load(tmp_path / "x.npy", standardise=False)
    found = [str(one.message) for one in found if "expected in" in str(one.message)]
    assert data.kind == "images" and len(found) == (said is not None)
    assert said is None or re.search(said, found[0])


def test_usual_rows_cause_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (torch.randn(100, 2), torch.rand(100, 3, 8, 8) * 2 - 1, torch.randn(100, 4, 8, 8), torch.randn(3, 5)):
            as_data(x)
        as_data(torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8))
        as_data(torch.randn(100, 784).clamp(-1, 1) * (torch.arange(784) % 28 > 3) - 1.0 * (torch.arange(784) % 28 < 4))
        as_data(grey(9, 3, 8, 8), standardise=False)
        as_data(torch.zeros(20, 1, 4, 4))
        as_data(fm.exact.Gaussian([5.0, 5.0], 0.01))


def test_values_that_single_precision_cannot_tell_apart_are_said(tmp_path):
    with pytest.warns(UserWarning, match=r"feature 0 of rows.npy has mean 1\.7e\+09.*subtract a constant"):
        load(saved(tmp_path, 1.7e9 + 100 * normal(1)))


def test_units_that_do_not_fit():
    with pytest.raises(ValueError, match="units are as many means as standard deviations"):
        fm.Units((0.0, 1.0), (1.0,))
    with pytest.raises(ValueError, match="of 0 or more"):
        fm.Units((0.0,), (-1.0,))
    with pytest.raises(ValueError, match="these units have 3 features, and rows of tensor have shape"):
        with_units(as_data(torch.randn(20, 2)), fm.Units((0.0,) * 3, (1.0,) * 3))


@pytest.mark.parametrize(("scale", "warned"), [(1.0, 0), (50.0, 1)])
def test_single_rows_of_an_iterable_are_looked_at_together(scale, warned):
    rows = [(torch.tensor([1.0, 1.02 + at % 2]) * scale, at % 3) for at in range(90)]

    class Rows:
        def __iter__(self):
            return iter(rows)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        data = as_data(Rows(), classes=3)
        assert as_data(Rows(), classes=3, standardise=False).shape == data.shape == (2,)
    assert len([one for one in found if "mean 0 and standard deviation 1" in str(one.message)]) == warned


def test_units_of_sequences_lie_on_their_second_axis():
    units = fm.Units((1.0, -2.0, 0.0), (2.0, 0.5, 0.0), axis=1)
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    z = units.standardised(x)
    assert torch.allclose(z[..., 0], (x[..., 0] - 1) / 2) and torch.allclose(z[..., 1], (x[..., 1] + 2) / 0.5)
    assert torch.allclose(units.restored(z)[..., :2], x[..., :2])
    units.check((7, 3), "rows")
    with pytest.raises(ValueError, match=r"3 features on axis 1, and rows of rows have shape \(3, 7\)"):
        units.check((3, 7), "rows")
    assert build(describe(units)) == units
    assert "axis" not in describe(fm.Units((0.0,), (1.0,)))["arguments"]  # as in earlier versions
