"""Wrong data: tensors, arrays, data sets, streams, names, and the options of each."""

import torch

import flowmaps as fm
from tests.in_one import in_one
from tests.wrong_inputs.support import cases, refuse

DATA = cases(
    """
    fm.data.as_data(torch.randint(9, (40, 2)))
    fm.data.as_data(torch.rand(40, 2) > 0.5)
    fm.data.as_data(rows.to(torch.complex64))
    fm.data.as_data(rows * nan)
    fm.data.as_data(rows / 0)
    fm.data.as_data(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    fm.data.as_data(pd.Series([1.0, 2.0]))
    fm.data.as_data((pd.DataFrame({"a": [1.0, 2.0]}), [0, 1]))
    fm.data.as_data(rows[:0])
    fm.data.as_data(rows[:, :0])
    fm.data.as_data(torch.tensor(1.0))
    fm.data.as_data(rows.to_sparse())
    fm.data.as_data(torch.nested.nested_tensor([rows[0], rows[1]]))
    fm.data.as_data(None)
    fm.data.as_data(3)
    fm.data.as_data(iter([rows]))
    fm.data.as_data({"x": rows.tolist()})
    fm.data.as_data(b"rows")
    fm.data.as_data(frame)
    fm.data.as_data([])
    fm.data.as_data([rows.tolist()])
    fm.data.as_data([rows, rows[:, :1]], held_out=[rows[:, :1]]).held_out(3)
    fm.data.as_data([rows, rows.double()]).draw(60)
    fm.data.as_data([rows, rows * nan]).draw(60)
    fm.data.as_data([(rows, torch.zeros(40).long())])
    fm.data.as_data((rows, torch.zeros(39).long()))
    fm.data.as_data((rows, torch.zeros(40, 2).long()))
    fm.data.as_data((rows, torch.full((40,), 0.5)))
    fm.data.as_data((rows, torch.full((40,), nan)))
    fm.data.as_data((rows, torch.full((40,), -1)))
    fm.data.as_data((rows, torch.zeros(40, dtype=torch.complex64)))
    fm.data.as_data((rows, ["cat"] * 39 + [""]))
    fm.data.as_data((rows, ["cat"] * 39 + [None]))
    fm.data.as_data((rows, ["cat"] * 3))
    fm.data.as_data(rows, kind="pictures")
    fm.data.as_data((rows, np.ma.masked_array(np.zeros(40, int), mask=np.arange(40) == 3)))
    fm.data.as_data((rows, torch.full((40,), 7)), classes=5)
    fm.data.as_data(rows, classes=5)
    fm.data.as_data((rows, torch.zeros(40).long()), classes=0)
    fm.data.as_data((rows, torch.zeros(40).long()), classes=-1)
    fm.data.as_data((rows, torch.zeros(40).long()), classes=2.5)
    fm.data.as_data((rows, torch.zeros(40).long()), classes=True)
    fm.data.as_data(rows, held_out=[rows])
    fm.data.as_data(np.ma.masked_array(rows.numpy(), mask=rows.numpy() > 1))
    fm.data.as_data(np.ma.masked_array(rows.numpy(), mask=True))
    fm.data.as_data(rows.numpy() * np.nan)
    fm.data.as_data(rows.numpy().astype(complex))
    fm.data.as_data(rows.numpy() > 0)
    fm.data.as_data(rows.numpy().astype(object))
    fm.data.as_data(rows.numpy().astype(str))
    fm.data.as_data(np.zeros((0, 2)))
    fm.data.as_data(np.float64(3.0))
    fm.data.as_data(np.array(["2020-01-01"], dtype="datetime64"))
    fm.data.as_data(torch.utils.data.TensorDataset(rows[:0]))
    fm.data.load("checkerbord")
    fm.data.load("")
    fm.data.load(None)
    fm.data.load(3)
    fm.data.load("gaussian", size=3)
    fm.data.load("gaussian", mean=(nan, 0.0))
    fm.data.load("gaussian", mean="centre")
    fm.data.load("gaussian", covariance=((1.0, 2.0), (2.0, 1.0)))
    fm.data.load("mixture", weights=(0.5, nan, 0.5))
    fm.data.load("mixture", weights=(0.5, 0.6, 0.5))
    fm.data.load("mixture", stds=0)
    fm.data.load("eight_gaussians", std=nan)
    fm.data.load("eight_gaussians", radius=0)
    fm.data.load("eight_gaussians", radius="2")
    fm.data.load("two_moons", noise=nan)
    fm.data.load("two_moons", noise=-0.1)
    fm.data.load("two_moons", labels="yes")
    fm.data.load("spirals", arms=0)
    fm.data.load("spirals", arms=1.5)
    fm.data.load("spirals", turns=inf)
    fm.data.load("glyphs", size=8)
    fm.data.load("glyphs", size=28.5)
    fm.data.load("glyphs", fonts=3)
    fm.data.load("glyphs", fonts=[[]])
    fm.data.load("glyphs", label=None)
    fm.data.load("glyphs", given=3)
    fm.data.load("photos", size=0)
    fm.data.load("photos", patches=nan)
    fm.data.load("photos", flips="no")
    fm.data.load("series", noise=nan)
    fm.data.load("series", length=4.5)
    fm.data.load("series", rows="all")
    next(data.batches(0))
    next(data.batches(1.5))
    next(data.batches(True))
    next(data.batches(4, seed=-1))
    next(data.batches(4, seed=0.5))
    next(data.batches(4, start=-1))
    data.draw(0)
    data.draw(2.5)
    data.draw(4, seed=-1)
    data.draw(4, seed=2**64)
    data.held_out(0)
    data.held_out(4, seed=None)
    data.to_pixels(x)
    fm.data.as_data(rows[:1]).held_out(1)
    fm.data.as_data(torch.ones(40, 2)).std
    fm.data.no_data(())
    fm.data.no_data((0,))
    fm.data.no_data((1.5,))
    fm.data.no_data(2)
    fm.data.no_data("28")
    fm.data.no_data((2,), classes=0)
    fm.data.no_data((2,), classes=-1)
    fm.data.no_data((2,), classes=1.5)
    fm.data.no_data((2,), prompts={})
    fm.data.reflow(None, data, 8)
    fm.data.reflow(network, data, 8)
    fm.data.reflow(gaussian, data, 0)
    fm.data.reflow(gaussian, data, 1.5)
    fm.data.reflow(gaussian, data, 8, steps=0)
    fm.data.reflow(gaussian, data, 8, step="heun")
    fm.data.reflow(gaussian, data, 8, seed=-1)
    fm.data.reflow(gaussian, data, 8, batch_size=0)
    fm.data.reflow(gaussian, data, 8, labels=True)
    fm.data.reflow(gaussian, None, 8)
    fm.data.reflow(writes, data, 8)
    fm.data.reflow(gaussian, data, 10**14)
    """
)

TRANSFORMS = cases(
    """
    LabelDropout(nan, 3)
    LabelDropout(1.5, 3)
    LabelDropout("half", 3)
    LabelDropout(0.1, -1)
    LabelDropout(0.1, 1.5)
    TextDropout(-0.1, {})
    TextDropout(nan, {})
    GuidanceScales(0, 2)
    GuidanceScales(3, 2)
    GuidanceScales(nan, 2)
    GuidanceScales(1, inf)
    GuidanceScales(1, 2, beta=nan)
    GuidanceScales(1, 2, interval=((0.5, 0.2), (0.7, 0.9)))
    GuidanceScales(1, 2, interval=((0.0, nan), (0.7, 0.9)))
    GuidanceScales(1, 2, interval=(0.2, 0.8))
    drawn_from_moments(fm.data.as_data(torch.randn(40, 3)))
    """
)


@in_one("expression", DATA)
def test_data(expression):
    refuse(expression)


@in_one("expression", TRANSFORMS)
def test_transforms(expression):
    refuse(expression, **vars(fm.data.transforms))


def test_data_that_are_cast_have_the_values_of_the_plain_ones():
    """Non-contiguous rows, rows with gradients, half precision, whole labels as floats, and nothing masked."""
    rows = torch.randn(40, 4)
    taken = fm.data.as_data(rows[:, ::2]).draw(40).x0
    assert torch.equal(taken, fm.data.as_data(rows[:, ::2].contiguous()).draw(40).x0)
    learned = fm.data.as_data(rows.clone().requires_grad_())
    assert not learned.draw(5).x0.requires_grad and not next(learned.batches(5)).x0.requires_grad
    streamed = fm.data.as_data([rows.clone().requires_grad_()])
    assert not streamed.draw(5).x0.requires_grad
    assert fm.data.as_data(rows.half()).draw(5).x0.dtype == torch.float16
    label = torch.arange(40) % 3
    floats = fm.data.as_data((rows, label.float()))
    assert floats.classes == 3 and floats.draw(5).label.dtype == torch.int64


def test_an_array_with_nothing_masked_is_an_array():
    import numpy as np

    rows = np.random.default_rng(0).normal(size=(40, 2))
    plain, unmasked = fm.data.as_data(rows), fm.data.as_data(np.ma.masked_array(rows, mask=False))
    assert torch.equal(plain.draw(9).x0, unmasked.draw(9).x0)


class Mixed(torch.utils.data.Dataset):
    """Items of mixed dtypes."""

    def __len__(self):
        return 10

    def __getitem__(self, row):
        return torch.zeros(1, 4, 4, dtype=torch.uint8 if row % 2 else torch.float32)


def test_items_of_mixed_dtypes_are_refused():
    refuse("fm.data.as_data(mixed).draw(10)", mixed=Mixed())
