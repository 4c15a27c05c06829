"""Objects that a user has already: tensors, torch data sets, loaders."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from flowmaps.data import Data, as_data, load

X = torch.arange(60, dtype=torch.float32).reshape(20, 3)
Y = torch.arange(20) % 4


class Items(Dataset):
    """Rows fetched one by one."""

    def __init__(self, items, classes=None):
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def labelled(x=X, y=Y, classes=None):
    return Items(list(zip(x, y.tolist(), strict=True)), classes)


def test_data_and_names_pass_through():
    data = load("spirals")
    assert as_data(data) is data
    assert as_data("digits").name == "digits"


@pytest.mark.parametrize(
    "obj", [(X, Y), TensorDataset(X, Y), labelled(), Subset(TensorDataset(X, Y), range(20)), (X.numpy(), Y.numpy())]
)
def test_finite_objects_with_labels_agree(obj):
    data, reference = as_data(obj), as_data((X, Y))
    assert isinstance(data, Data) and (data.shape, data.classes, data.size) == ((3,), 4, 16)
    for batch, expected in islice(zip(data.batches(6), reference.batches(6), strict=False), 5):
        assert torch.equal(batch.x0, expected.x0) and torch.equal(batch.label, expected.label)
        assert torch.equal(batch.label, (batch.x0[:, 0].long() // 3) % 4)
    assert torch.equal(data.held_out(9).x0, reference.held_out(9).x0)


def test_rows_keep_their_dtype_and_labels_are_optional():
    for obj in (X.double(), (X.double(),), TensorDataset(X.double()), Items(list(X.double()))):
        batch = as_data(obj).draw(4)
        assert batch.x0.dtype == torch.float64 and batch.label is None
    assert as_data(torch.arange(10.0)).shape == (1,)


def test_byte_images_and_the_kind_of_rows():
    data = as_data(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 8, 8))
    assert data.kind == "images" and data.levels == 256
    assert torch.cat((data.draw(1).x0, data.held_out(1).x0)).unique().tolist() == [-1, 1]
    assert as_data(torch.randn(4, 2)).kind == "points"
    assert as_data(torch.randn(4, 4, 8, 8)).kind == "vectors", "four channels are latents"
    with pytest.raises(ValueError, match=r"must be floating, or uint8 images \(N, C, H, W\), got torch.int64"):
        as_data(torch.arange(10))


def test_bad_tensors_are_refused():
    x = X.clone()
    x[0, 0], x[1, 1] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="of 60 values 1 are NaN and 1 infinite"):
        as_data(x)
    with pytest.raises(ValueError, match=r"must have rows, got shape \(0, 3\)"):
        as_data(torch.empty(0, 3))
    with pytest.raises(ValueError, match="0 or more; 1 are not, the first in row 7: -1"):
        as_data((X, torch.where(torch.arange(20) == 7, -1, 0)))
    with pytest.raises(ValueError, match="below the number of classes, 3"):
        as_data((X, Y), classes=3)
    with pytest.raises(ValueError, match="has no labels, so classes=3"):
        as_data(X, classes=3)
    with pytest.warns(UserWarning, match=r"expected in \[-1, 1\].*seem to lie in \[0, 1\]"):
        as_data(torch.rand(9, 3, 8, 8))


def test_a_torch_data_set_names_its_classes():
    data = as_data(labelled(classes=["a", "b", "c", "d", "e"]))
    assert data.classes == 5 and data.class_names == ("a", "b", "c", "d", "e")
    with pytest.raises(ValueError, match="below the number of classes, 2"):
        list(islice(as_data(labelled(classes=["a", "b"])).batches(8), 9))


def test_torch_data_sets_with_bad_items():
    with pytest.raises(ValueError, match="Items has no rows"):
        as_data(Items([]))
    with pytest.raises(
        TypeError, match=r"or an array, \(tensor, label\) or a dict of them, got \(ndarray, int\); convert them in"
    ):
        as_data(Items([(np.array(["a", "b"]), 0)]))
    with pytest.raises(TypeError, match=r"got dict with keys \['x'\]"):
        as_data(Items([{"x": 1}]))
    data = as_data(Items([torch.zeros(3)] * 5 + [torch.zeros(4)] * 5))
    with pytest.raises(ValueError, match=r"must have one shape, got \(3,\) and \(4,\)"):
        data.draw(8)


PIXELS = torch.linspace(-1, 1, 6 * 8 * 5 * 3).reshape(6, 8, 5, 3)
"""Images with channels at the end."""


@pytest.mark.parametrize(
    "obj",
    [
        PIXELS,
        (PIXELS,),
        TensorDataset(PIXELS),
        Items(list(PIXELS)),
        list(PIXELS),
        [PIXELS[:4], PIXELS[4:]],
        DataLoader(PIXELS, batch_size=3),
        DataLoader(PIXELS, batch_size=None),
        [{"image": x} for x in PIXELS],
        PIXELS.numpy(),
    ],
)
def test_images_with_channels_at_the_end_are_turned(obj, recwarn):
    data = as_data(obj)
    assert (data.shape, data.kind) == ((3, 8, 5), "images")
    expected = {tuple(x.flatten().tolist()) for x in PIXELS.movedim(-1, 1)}
    assert {tuple(x.flatten().tolist()) for x in data.draw(data.size or 6).x0} <= expected
    told = "channels at the end and turned to (3, 8, 5)"
    assert isinstance(obj, np.ndarray) or told in str(recwarn[0].message)
    assert isinstance(obj, np.ndarray) or as_data(obj, kind="vectors").shape == (8, 5, 3)


def test_rows_that_are_no_images_keep_their_layout(recwarn):
    for shape in ((4, 8, 8), (2, 3, 3), (3, 8, 3), (8, 3), (8, 8)):
        assert as_data(torch.randn(5, *shape).clamp(-1, 1)).shape == shape
    assert not recwarn.list


@pytest.mark.parametrize("rows", [X, torch.arange(20.0), torch.randn(20, 3, 8, 8).clamp(-1, 1)])
@pytest.mark.parametrize("label", [None, int, torch.tensor, str])
def test_single_rows_are_no_batches(rows, label):
    """Lists of rows, and iterables that give one row at a time."""

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(items)

    items = [x if label is None else (x, label(int(y))) for x, y in zip(rows, Y, strict=True)]
    expected = as_data(rows if label is None else (rows, Y))
    data = as_data(items)
    assert (data.shape, data.size, data.classes, data.kind) == (expected.shape, 16, expected.classes, expected.kind)
    for one, other in islice(zip(data.batches(6), expected.batches(6), strict=False), 3):
        assert torch.equal(one.x0, other.x0) and (label is None or torch.equal(one.label, other.label))
    if label is not str:
        classes = {} if label is None else {"classes": 4}
        for stream in (Stream(), DataLoader(items, batch_size=None)):
            batch = as_data(stream, **classes).draw(20)
            assert torch.equal(batch.x0, rows.reshape(20, *expected.shape))
            assert label is None or torch.equal(batch.label, Y)


def test_loaders_know_the_classes_of_their_data_set():
    named = labelled(classes=["a", "b", "c", "d", "e"])
    for dataset, classes, names in (
        (TensorDataset(X, Y), 4, None),
        (Subset(TensorDataset(X, Y), range(6)), 4, None),
        (named, 5, ("a", "b", "c", "d", "e")),
        (Subset(named, range(8)), 5, ("a", "b", "c", "d", "e")),
    ):
        data = as_data(DataLoader(dataset, batch_size=4))
        assert (data.classes, data.class_names) == (classes, names) and torch.equal(data.draw(4).label, Y[:4])
    with pytest.raises(ValueError, match="so the number of classes is needed: pass classes=N"):
        as_data(DataLoader(labelled(), batch_size=4))


@pytest.mark.parametrize(
    ("row", "target"), [("x", "y"), ("image", "label"), ("Pixel_Values", "Labels"), ("own", "class")]
)
def test_items_that_are_dicts(row, target):
    items = [{target: int(y), row: x} for x, y in zip(X, Y, strict=True)]
    expected = as_data((X, Y))
    for obj in (Items(items), items):
        data = as_data(obj)
        assert torch.equal(data.draw(9).x0, expected.draw(9).x0) and torch.equal(
            data.draw(9).label, expected.draw(9).label
        )
    batch = as_data(DataLoader(Items(items), batch_size=8), classes=4).draw(20)
    assert torch.equal(batch.x0, X) and torch.equal(batch.label, Y)
    whole = as_data({row: X, target: Y})
    assert torch.equal(whole.draw(9).x0, expected.draw(9).x0) and whole.classes == 4
    with pytest.warns(UserWarning, match="items of list have keys that are not read: text"):
        as_data([{"text": "a", **item} for item in items])
    with pytest.raises(TypeError, match=r"a dict of them, got dict with keys \['a', 'b'\]"):
        as_data(Items([{"a": torch.zeros(3), "b": torch.zeros(3)}]))


def test_texts_as_labels_of_items():
    data = as_data(Items([(x, "ab"[int(y) % 2]) for x, y in zip(X, Y, strict=True)]))
    batch = data.draw(9)
    assert data.class_names == ("a", "b") and torch.equal(batch.label, (batch.x0[:, 0].long() // 3) % 2)


def test_a_loader_is_cut_to_the_size_asked_for_and_starts_where_it_is_told():
    data = as_data(DataLoader(TensorDataset(X, Y), batch_size=7), classes=4)
    assert data.shape == (3,) and data.size is None and data.classes == 4
    batches = list(islice(data.batches(6), 10))
    rows = torch.cat([batch.x0 for batch in batches])
    assert torch.equal(rows, X.repeat(3, 1))
    assert torch.equal(torch.cat([batch.label for batch in batches]), Y.repeat(3))
    for batch, again in islice(zip(batches[4:], data.batches(6, start=4), strict=False), 4):
        assert torch.equal(batch.x0, again.x0)
    assert torch.equal(data.draw(25).x0, X.repeat(2, 1)[:25])
    assert next(data.batches(50)).x0.shape == (50, 3)


def test_held_out_rows_of_a_stream_come_from_another():
    loader = DataLoader(X, batch_size=5)
    with pytest.raises(ValueError, match="pass as_data.batches, held_out=other_batches"):
        as_data(loader).held_out(3)
    data = as_data(loader, held_out=[X[:4] + 1, X[4:6] + 1])
    assert torch.equal(data.held_out(5).x0, X[:5] + 1) and torch.equal(data.held_out(100).x0, X[:6] + 1)
    with pytest.raises(ValueError, match="held_out goes with an iterable"):
        as_data(X, held_out=loader)


def test_streams_that_cannot_serve():
    with pytest.raises(TypeError, match="that can be read again, got generator"):
        as_data(x for x in [X])
    with pytest.raises(TypeError, match="got int"):
        as_data(3)
    with pytest.raises(ValueError, match="must give at least one, and this list gave none"):
        as_data([])
    with pytest.raises(ValueError, match="so the number of classes is needed: pass classes=N"):
        as_data([(X, Y)])
    with pytest.raises(ValueError, match=r"must have rows of shape \(3,\), as the first had, got \(4,\)"):
        as_data([X, torch.zeros(2, 4)]).draw(30)
    with pytest.raises(ValueError, match="NaN"):
        as_data([X, X * torch.nan]).draw(30)
    with pytest.raises(ValueError, match="classes goes with"):
        as_data("digits", classes=3)


def test_an_iterable_data_set_of_batches():
    class Ready(IterableDataset):
        def __iter__(self):
            return iter([X[:8], X[8:]])

    assert torch.equal(next(as_data(Ready()).batches(20)).x0, X)


@pytest.mark.parametrize(
    ("items", "shape", "classes"),
    [
        ([x.numpy() for x in X], (3,), None),
        ([(x.numpy(), int(y)) for x, y in zip(X, Y, strict=True)], (3,), 4),
        ([(x.numpy(), np.int64(y)) for x, y in zip(X, Y, strict=True)], (3,), 4),
        ([{"x": x.numpy(), "name": np.array("row"), "label": int(y)} for x, y in zip(X, Y, strict=True)], (3,), 4),
    ],
    ids=["rows", "pairs", "numbers of numpy", "dicts"],
)
def test_items_of_numpy_are_items(items, shape, classes):
    data = as_data(items, standardise=False)
    assert (data.shape, data.classes) == (shape, classes)
    rows = torch.cat([data.draw(1000).x0, data.held_out(1000).x0])
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in X.tolist()}


def test_batches_of_numpy_are_batches():
    batches = [(X[:8].numpy(), Y[:8].numpy()), (X[8:].numpy(), Y[8:].numpy())]
    data = as_data(batches, classes=4, standardise=False)
    assert data.shape == (3,) and torch.equal(next(data.batches(len(X))).x0, X)
