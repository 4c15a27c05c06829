"""Arrays on disk: layouts, ranges, keys, and what is refused."""

import zipfile

import numpy as np
import pytest
import torch

from flowmaps.data import array_format, arrays, as_data, load

RNG = np.random.default_rng(0)


def save(path, array, **named):
    np.savez(path, **named) if path.suffix == ".npz" else np.save(path, array)
    return str(path)


def all_rows(data):
    """Training and held-out rows, sorted so that they can be compared."""
    x = torch.cat((data.draw(data.size).x0, data.held_out(10**6).x0))
    return torch.tensor(sorted(x.flatten(1).tolist()))


def rows_of(expected):
    return torch.tensor(sorted(torch.as_tensor(expected).flatten(1).tolist()))


def test_vectors_and_points_keep_their_values_if_asked(tmp_path):
    for array, shape, kind in (
        (RNG.normal(size=(20, 2)), (2,), "points"),
        (5 * RNG.normal(size=(20, 7)).astype(np.float16), (7,), "vectors"),
        (RNG.integers(-3, 300, size=(20, 3)), (3,), "vectors"),
        (RNG.normal(size=20), (1,), "vectors"),
        (RNG.normal(size=(20, 16, 4, 4)), (16, 4, 4), "vectors"),
        (RNG.normal(size=(20, 5)).astype(">f4"), (5,), "vectors"),
    ):
        data = load(save(tmp_path / "a.npy", array), standardise=False)
        assert (data.shape, data.kind, data.levels, data.size) == (shape, kind, None, 16)
        assert data.draw(3).x0.dtype == torch.float32
        assert torch.equal(all_rows(data), rows_of(array.astype(np.float32).reshape(20, -1)))


def test_byte_images_are_scaled_and_turned_channels_first(tmp_path):
    array = RNG.integers(0, 256, size=(15, 6, 5, 3), dtype=np.uint8)
    array[0, 0, 0], array[1, 0, 0] = 0, 255
    expected = np.moveaxis(array, -1, 1) / 127.5 - 1
    for stored, options in ((array, {}), (np.moveaxis(array, -1, 1), {}), (array.astype(np.int64), {})):
        data = load(save(tmp_path / "a.npy", stored), **options)
        assert (data.shape, data.kind, data.levels) == ((3, 6, 5), "images", 256)
        assert torch.allclose(all_rows(data), rows_of(expected.astype(np.float32)), atol=1e-6)
    grey = load(save(tmp_path / "grey.npy", array[..., 0]))
    assert grey.shape == (1, 6, 5) and grey.levels == 256
    assert load(save(tmp_path / "four.npy", np.zeros((4, 8, 8, 4), np.uint8))).shape == (4, 8, 8)


def test_the_ends_of_the_byte_range(tmp_path):
    array = np.stack([np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)] * 5)
    data = load(save(tmp_path / "a.npy", array))
    assert all_rows(data).unique().tolist() == [-1.0, 1.0]
    assert data.to_pixels(data.draw(8).x0).unique().tolist() == [0.0, 1.0]


def test_floating_images_lie_in_their_range_or_say_so(tmp_path):
    array = RNG.uniform(0, 1, size=(12, 1, 8, 8))
    array[0, 0, 0, 0], array[1, 0, 0, 0] = 0, 1
    path = save(tmp_path / "a.npy", array * 10)
    with pytest.raises(
        ValueError, match=r"must lie in \[-1, 1\], and their values reach from 0 to 10: pass value_range"
    ):
        load(path)
    data = load(path, value_range=(0, 10))
    assert data.levels is None and data.kind == "images"
    assert torch.allclose(all_rows(data), rows_of((2 * array - 1).astype(np.float32)), atol=1e-6)
    assert load(path, kind="vectors").kind == "vectors"
    with pytest.raises(ValueError, match="low < high"):
        load(path, value_range=(1, 1))


def test_an_unclear_layout_is_asked_for(tmp_path):
    path = save(tmp_path / "a.npy", np.zeros((4, 3, 5, 1), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(4, 3, 5, 1\): are channels first or last"):
        load(path)
    assert load(path, layout="NCHW").shape == (3, 5, 1)
    assert load(path, layout="NHWC").shape == (1, 3, 5)
    with pytest.raises(ValueError, match="layout NHW has 3 dimensions"):
        load(path, layout="NHW")
    with pytest.raises(ValueError, match='"NHWC", "NCHW" or "NHW", got "hwc"'):
        load(path, layout="hwc")
    with pytest.raises(ValueError, match='"images" or "vectors", got "pictures"'):
        load(path, layout="NHWC", kind="pictures")
    with pytest.raises(ValueError, match=r"shape \(2,\) and cannot be images"):
        load(save(tmp_path / "b.npy", np.zeros((4, 2))), kind="images")


def test_latents_with_channels_at_the_end_are_asked_about(tmp_path, recwarn):
    path = save(tmp_path / "a.npy", RNG.normal(size=(4, 8, 8, 4)))
    for options, shape in (({}, (8, 8, 4)), ({"layout": "NHWC"}, (4, 8, 8)), ({"layout": "NCHW"}, (8, 8, 4))):
        assert load(path, **options).shape == shape
    assert load(save(tmp_path / "b.npy", RNG.normal(size=(4, 16, 8, 8)))).shape == (16, 8, 8)
    assert len(recwarn) == 1 and 'pass layout="NHWC" if the last are channels' in str(recwarn[0].message)


def test_npz_keys(tmp_path):
    x, y = np.arange(30.0).reshape(10, 3), np.arange(10) % 4
    data = load(save(tmp_path / "a.npz", None, x=x, labels=y), standardise=False)
    assert data.classes == 4
    batch = data.draw(8)
    assert torch.equal(batch.label, (batch.x0[:, 0].long() // 3) % 4)
    assert load(save(tmp_path / "a.npz", None, x=x, labels=y), labels=False).classes is None
    assert load(save(tmp_path / "a.npz", None, x=x, y=y)).classes == 4
    with pytest.raises(ValueError, match="labels of a.npz must be 0 or more"):
        load(save(tmp_path / "a.npz", None, x=x, label=y - 1))
    assert load(save(tmp_path / "b.npz", None, only=x)).shape == (3,)
    path = save(tmp_path / "c.npz", None, train=x, target=y)
    assert load(path, x="train", labels="target", classes=7).classes == 7
    with pytest.raises(ValueError, match=r'no key "x" but \[\'target\', \'train\'\]: pass x=KEY'):
        load(path)
    with pytest.raises(ValueError, match="without keys"):
        load(save(tmp_path / "d.npy", x), x="y")


def test_recipe_makes_the_same_data_again(tmp_path, monkeypatch):
    save(tmp_path / "a.npz", None, train=np.arange(30.0).reshape(10, 3))
    monkeypatch.chdir(tmp_path)
    data = load("a.npz", x="train")
    monkeypatch.chdir("/")
    assert torch.equal(load(**data.recipe).draw(5).x0, data.draw(5).x0)


def test_large_arrays_stay_on_disk_and_give_the_same_rows(tmp_path, monkeypatch):
    array = RNG.integers(0, 256, size=(40, 5, 5, 3), dtype=np.uint8)
    path = save(tmp_path / "a.npy", array)
    small = load(path)
    monkeypatch.setattr(arrays, "IN_MEMORY", 100)
    monkeypatch.setattr(array_format, "CHUNK", 200)
    large = load(path)
    assert isinstance(large.source.train.rows, arrays.DiskRows)
    assert isinstance(large.source.train.rows.array, np.memmap)
    for a, b in zip(small.batches(9), large.batches(9), strict=False):
        assert torch.equal(a.x0, b.x0)
        break
    assert torch.equal(small.held_out(99).x0, large.held_out(99).x0)


def test_values_that_are_not_finite_are_counted(tmp_path):
    array = np.zeros((10, 3))
    array[2, 1] = array[3, 0] = np.nan
    array[4, 2] = -np.inf
    with pytest.raises(ValueError, match="a.npy must be finite, and of 30 values 2 are NaN and 1 infinite"):
        load(save(tmp_path / "a.npy", array))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1, 2, -3], "0 or more; 2 are not, the first in row 2: -1"),
        ([0, 1, 5, 2, 1], "below the number of classes, 5; 1 are not, the first in row 2: 5"),
        ([0.0, 1.5, 2, 2, 1], "whole numbers; 1 are not, the first in row 1: 1.5"),
        ([0.0, np.nan, 2, 2, 1], "whole numbers; 1 are not, the first in row 1: nan"),
        ([0, 1, 2], r"shape \(5,\), one for each row, got \(3,\)"),
        (["a", "b", "", "d", "e"], "are texts, and some are missing: the first in row 2 is ''"),
        (["a", "b", "c", "a", "b"], "5 classes and 3 class names"),
        ([[0, 1], [1, 0], [0, 1], [0, 1], [0, 1]], r"shape \(5,\), one for each row, got \(5, 2\)"),
    ],
)
def test_bad_labels(tmp_path, labels, message):
    path = save(tmp_path / "a.npz", None, x=np.zeros((5, 3)), labels=np.array(labels))
    with pytest.raises(ValueError, match=message):
        load(path, classes=5)


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (["dog", "cat", "dog", "ant"], [2, 1, 2, 0], ("ant", "cat", "dog")),
        ([b"dog", b"cat", b"dog", b"cat"], [1, 0, 1, 0], ("cat", "dog")),
        ([[" b"], ["a"], ["b"], ["a "]], [1, 0, 1, 0], ("a", "b")),
        ([True, False, False, True], [1, 0, 0, 1], ("False", "True")),
        ([True, True, True, True], [1, 1, 1, 1], ("False", "True")),
        (["10", "2", "0", "10"], [10, 2, 0, 10], None),
    ],
)
@pytest.mark.parametrize("key", ["label", "Labels", "CLASS"])
def test_texts_and_truth_values_are_labels_in_the_order_of_their_names(tmp_path, labels, numbers, names, key):
    x = np.arange(12.0).reshape(4, 3)
    data = load(save(tmp_path / "a.npz", None, x=x, **{key: np.array(labels)}), standardise=False)
    batch = data.draw(4)
    assert data.classes == max(max(numbers) + 1, len(names or ())) and data.class_names == names
    assert batch.label.tolist() == [numbers[int(row[0]) // 3] for row in batch.x0]
    np.save(tmp_path / "names.npy", np.array(labels))
    assert load(save(tmp_path / "x.npy", x), labels="names.npy").class_names == names
    assert as_data((torch.tensor(x), labels)).class_names == names


def test_arrays_that_are_not_read_are_named(tmp_path):
    x, y = np.zeros((6, 3)), np.arange(6) % 2
    path = save(tmp_path / "a.npz", None, x_train=x, y_train=y, x_test=x[:2], mean=np.zeros(3))
    with pytest.warns(UserWarning, match=r"has arrays that are not read: y_train \(6,\); pass labels=KEY"):
        assert load(path, x="x_train").classes is None
    assert load(path, x="x_train", labels="y_train").classes == 2
    with pytest.raises(ValueError, match="labels=True, and .* has no key label"):
        load(path, x="x_train", labels=True)


def test_names_of_files_and_of_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((6, 3)))
    assert load((tmp_path / "a.npz").rename(tmp_path / "A.NPZ")).shape == (3,)
    np.save(tmp_path / "b.npy", np.zeros((6, 3)))
    assert load((tmp_path / "b.npy").rename(tmp_path / "b.NPY")).shape == (3,)
    with zipfile.ZipFile(tmp_path / "A.NPZ", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.write(tmp_path / "b.NPY", "x.npy")
    with pytest.raises(ValueError, match="several arrays of one name: x.npy"):
        load(tmp_path / "A.NPZ")


def test_classes_without_labels(tmp_path):
    with pytest.raises(ValueError, match="has no labels, so classes=3 does not apply"):
        load(save(tmp_path / "a.npy", np.zeros((5, 3))), classes=3)


def test_files_that_are_no_arrays_of_numbers(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "text.npz").write_text("not an archive")
    whole = (tmp_path / "whole.npz", tmp_path / "cut.npz")
    np.savez(whole[0], x=np.zeros((50, 3)))
    whole[1].write_bytes(whole[0].read_bytes()[:600])
    np.save(tmp_path / "short.npy", np.zeros((50, 3)))
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:300])
    for name in ("objects.npy", "text.npy", "text.npz", "cut.npz", "short.npy"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as arrays of numbers"):
            load(tmp_path / name)
    for array in (np.zeros((0, 3)), np.array(3.0), np.array(["a"]), np.zeros((3, 2), complex), np.zeros((3, 2), bool)):
        with pytest.raises(ValueError, match="must hold rows of real numbers, got shape"):
            load(save(tmp_path / "a.npy", array))
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"must be .npy, .npz, .safetensors, .csv or .tsv, got .*a.txt"):
        load(tmp_path / "a.txt")
