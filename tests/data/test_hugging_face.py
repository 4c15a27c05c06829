"""Hugging Face data sets, saved to disk by the test itself."""

from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from flowmaps.data import as_data, load
from flowmaps.data.hugging_face import ArrayColumn

RNG = np.random.default_rng(0)
NAMES = ["ant", "bee", "cow"]


def images(n, size=(5, 5)):
    return [Image.fromarray(RNG.integers(0, 256, size=(*size, 3), dtype=np.uint8)) for _ in range(n)]


def table(n=12, label=None, **columns):
    """Images with class labels, and any other columns."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
        | {name: feature for name, (feature, _) in columns.items()}
    )
    content = {"image": images(n), "label": label if label is not None else [i % 3 for i in range(n)]}
    return datasets.Dataset.from_dict(content | {name: values for name, (_, values) in columns.items()}, features)


def test_a_saved_table_of_images(tmp_path):
    made = table(20)
    made.save_to_disk(tmp_path / "set")
    data = load(tmp_path / "set")
    assert (data.shape, data.kind, data.levels, data.size) == ((3, 5, 5), "images", 256, 16)
    assert data.classes == 3 and data.class_names == tuple(NAMES)
    x0, label, *_ = data.draw(16)
    held = data.held_out(9)
    found = torch.cat((x0, held.x0)).flatten(1), torch.cat((label, held.label))
    expected = {tuple(np.asarray(row["image"]).transpose(2, 0, 1).ravel()): row["label"] for row in made}
    assert len(expected) == 20
    for x, y in zip(*found, strict=True):
        assert expected.pop(tuple(((x + 1) * 127.5).round().long().tolist())) == y
    again = load(**data.recipe)
    assert torch.equal(again.draw(5).x0, data.draw(5).x0)


def test_splits_are_the_data_sets_own(tmp_path):
    parts = datasets.DatasetDict(train=table(12, [0] * 12), validation=table(5, [1] * 5), extra=table(4, [2] * 4))
    parts.save_to_disk(tmp_path / "set")
    data = load(tmp_path / "set")
    assert data.size == 12 and data.draw(30).label.unique().tolist() == [0]
    assert data.held_out(30).label.tolist() == [1] * 5
    data = load(tmp_path / "set", split="extra", held_out="train")
    assert data.size == 4 and len(data.held_out(30).x0) == 12
    with pytest.raises(ValueError, match='has no split "tset", it has train, validation, extra'):
        load(tmp_path / "set", held_out="tset")
    with pytest.raises(ValueError, match='both "train"'):
        load(tmp_path / "set", held_out="train")
    assert as_data(parts).size == 12 and as_data(parts["extra"]).size == 3
    parts["train"].save_to_disk(tmp_path / "one")
    with pytest.raises(ValueError, match="single table without splits"):
        load(tmp_path / "one", split="train")


def test_columns_are_found_or_asked_for(tmp_path):
    coarse = datasets.ClassLabel(names=["x", "y"])
    made = table(
        8,
        thumbnail=(datasets.Image(), images(8)),
        coarse=(coarse, [0, 1] * 4),
        note=(datasets.Value("string"), ["a"] * 8),
    )
    made.save_to_disk(tmp_path / "set")
    with pytest.raises(
        ValueError, match=r"one column of images or arrays and has 2; pass column=NAME, one of: image \(Image\)"
    ):
        load(tmp_path / "set")
    with pytest.raises(
        ValueError, match="several columns of class labels, pass labels=NAME or labels=False: label, coarse"
    ):
        load(tmp_path / "set", column="thumbnail")
    assert load(tmp_path / "set", column="image", labels="coarse").class_names == ("x", "y")
    assert load(tmp_path / "set", column="image", labels=False).classes is None
    with pytest.raises(ValueError, match='has no column "note" of images or arrays'):
        load(tmp_path / "set", column="note")
    with pytest.raises(ValueError, match='has no column "fine", it has image, label'):
        load(tmp_path / "set", column="image", labels="fine")
    assert load(tmp_path / "set", column="image", labels="note").class_names == ("a",)


@pytest.mark.parametrize(
    ("values", "numbers", "names"),
    [
        (["dog", "cat"] * 4, [1, 0] * 4, ("cat", "dog")),
        ([True, False] * 4, [1, 0] * 4, ("False", "True")),
        ([3, 1] * 4, [3, 1] * 4, None),
        (["3", "1"] * 4, [3, 1] * 4, None),
    ],
)
@pytest.mark.parametrize("key", ["label", "Target"])
def test_columns_of_texts_and_truth_values_are_labels(values, numbers, names, key):
    made = datasets.Dataset.from_dict({"row": [[float(i), 0.0, 0.0] for i in range(8)], key: values})
    data = as_data(made)
    assert data.class_names == names and data.classes == (2 if names else 4)
    batch = data.draw(6)
    assert batch.label.tolist() == [numbers[int(row[0])] for row in batch.x0]
    assert as_data(datasets.Dataset.from_dict({"row": [[1.0]] * 4, "label": ["a", "a", "b", "b"]})).classes == 2
    with pytest.raises(ValueError, match="are texts, and some are missing: the first in row 1 is None"):
        as_data(datasets.Dataset.from_dict({"row": [[1.0]] * 3, "label": ["a", None, "b"]}))


@pytest.mark.parametrize("feature", ["fine_label", "category", "target"])
def test_columns_that_may_be_labels_are_named(feature):
    made = datasets.Dataset.from_dict({"row": [[1.0], [2.0]], feature: [0.5, 1.0]})
    with pytest.warns(
        UserWarning, match=rf"may be class labels and are not read: {feature} \(float64\); pass labels=NAME"
    ):
        assert as_data(made).classes is None


@pytest.mark.parametrize("kind", ["torch", "numpy", "arrow"])
def test_a_format_changes_nothing(kind):
    made = table(12)
    data, plain = as_data(made.with_format(kind)), as_data(made)
    assert data.class_names == tuple(NAMES) and torch.equal(data.draw(9).x0, plain.draw(9).x0)
    assert torch.equal(data.draw(9).label, plain.draw(9).label)
    assert as_data(made.with_format(kind, columns=["image"])).classes is None


def test_splits_that_do_not_fit_together():
    train, test = table(6), table(4)
    for part, message in (
        (
            test.remove_columns("label"),
            'held-out split of dataset has no column "label", it has image: .* labels=False',
        ),
        (test.remove_columns("image"), 'held-out split of dataset has no column "image", it has label: name another'),
        (test.cast_column("label", datasets.ClassLabel(names=NAMES[::-1])), 'have other classes in column "label"'),
    ):
        with pytest.raises(ValueError, match=message):
            as_data(datasets.DatasetDict(train=train, test=part))


def test_rows_without_an_image_and_with_several():
    features = datasets.Features({"image": datasets.Image()})
    with pytest.warns(UserWarning, match=r"1 of 3 images .* rows\[1\]: there is no image in this row"):
        as_data(datasets.Dataset.from_dict({"image": [images(1)[0], None, images(1)[0]]}, features))
    several = datasets.Features({"image": datasets.List(datasets.Image())})
    with pytest.raises(ValueError, match=r"has 0; pass column=NAME, one of: image \(List of Image\)"):
        as_data(datasets.Dataset.from_dict({"image": [images(2)] * 3}, several))


def test_a_stream_gives_its_rows():
    made = table(12)
    stream = as_data(made.to_iterable_dataset(), held_out=made.to_iterable_dataset())
    assert stream.class_names == tuple(NAMES) and stream.shape == (3, 5, 5) and stream.levels == 256
    batch = stream.draw(12)
    assert batch.label.tolist() == made["label"][:]
    pixels = torch.tensor(np.stack([np.asarray(image) for image in made["image"]])).movedim(-1, 1)
    assert torch.equal(batch.x0, pixels / 127.5 - 1) and torch.equal(stream.held_out(4).x0, batch.x0[:4])
    loader = as_data(DataLoader(made.with_format("torch"), batch_size=5))
    assert loader.class_names == tuple(NAMES) and torch.equal(loader.draw(12).x0, batch.x0)


@pytest.mark.parametrize("names", [("train",), ("train", "test"), ("test", "extra", "train"), ("only",)])
def test_a_dict_of_streams_has_the_splits_of_a_dict_of_tables(names):
    """The same training rows and held-out rows as from tables, also for a single split of any name."""
    tables = {name: table(6, [at] * 6) for at, name in enumerate(names)}
    streams = {name: part.to_iterable_dataset() for name, part in tables.items()}
    data = as_data(datasets.IterableDatasetDict(**streams))
    train = names.index("train") if len(names) > 1 else 0
    assert set(data.draw(12).label.tolist()) == {train} and data.class_names == tuple(NAMES)
    test = "test" in names
    assert data.draw(12).x0.shape == (12, 3, 5, 5)
    if test:
        assert set(data.held_out(4).label.tolist()) == {names.index("test")}
    given = as_data(datasets.IterableDatasetDict(**streams), held_out=streams[names[0]])
    assert set(given.held_out(4).label.tolist()) == {0}


@pytest.mark.parametrize("streamed", [False, True])
def test_splits_without_one_for_training_are_named(streamed):
    tables = {"a": table(6), "b": table(6)}
    if streamed:
        made = datasets.IterableDatasetDict({name: part.to_iterable_dataset() for name, part in tables.items()})
    else:
        made = datasets.DatasetDict(tables)
    with pytest.raises(ValueError, match=r'has no split "train", it has a, b: name .* as in data\[\'a\'\]'):
        as_data(made)


def test_a_transform_of_ones_own_is_used():
    made = table(8)
    made.set_transform(
        lambda rows: {"image": [torch.full((3, 4, 4), 0.25) for _ in rows["image"]], "label": rows["label"]}
    )
    data = as_data(made)
    assert data.shape == (3, 4, 4) and data.class_names == tuple(NAMES) and bool((data.draw(3).x0 == 0.25).all())


def test_arrays_with_missing_numbers():
    made = datasets.Dataset.from_dict({"row": [[1, 2], [3, None]]})
    with pytest.raises(ValueError, match="must all be numbers of one shape, and none missing"):
        as_data(made)


def test_labels_out_of_range(tmp_path):
    table(6, [0, 1, -1, 2, 0, 1]).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match="0 or more; 1 are not, the first in row 2: -1"):
        load(tmp_path / "set")
    table(6, [0, 1, None, 2, 0, 1]).save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match="whole numbers; 1 are not, the first in row 2: None"):
        load(tmp_path / "none")


def test_broken_images_are_named(tmp_path):
    made = table(6).cast_column("image", datasets.Image(decode=False))
    rows = made.to_list()
    rows[4]["image"]["bytes"] = rows[4]["image"]["bytes"][:60]
    datasets.Dataset.from_list(rows, features=table(1).features).save_to_disk(tmp_path / "set")
    with pytest.warns(UserWarning, match=r"1 of 6 images .* left out: rows\[4\]"):
        data = load(tmp_path / "set")
    assert data.size == 4 and len(data.skipped) == 1


def test_mixed_sizes_and_the_options_of_images(tmp_path):
    content = {"image": images(3) + images(3, (8, 6))}
    datasets.Dataset.from_dict(content, datasets.Features({"image": datasets.Image()})).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match=r"rows\[0\] is 5 x 5, rows\[3\] is 8 x 6; pass size"):
        load(tmp_path / "set")
    assert load(tmp_path / "set", size=4, mode="L").shape == (1, 4, 4)


def test_arrays_of_numbers(tmp_path):
    values = RNG.normal(size=(10, 2)).astype(np.float32)
    made = datasets.Dataset.from_dict({"point": values.tolist(), "target": [i % 2 for i in range(10)]})
    made.save_to_disk(tmp_path / "set")
    data = load(tmp_path / "set", standardise=False)
    assert (data.kind, data.shape, data.classes, data.class_names) == ("points", (2,), 2, None)
    x = torch.cat((data.draw(8).x0, data.held_out(9).x0))
    assert sorted(x.tolist()) == sorted(torch.tensor(values).tolist())
    with pytest.raises(ValueError, match="size and mode are for images"):
        load(tmp_path / "set", size=8)
    datasets.Dataset.from_dict({"v": [[1.0, 2.0], [1.0]]}).save_to_disk(tmp_path / "ragged")
    with pytest.raises(ValueError, match='column "v" of .* must all be numbers of one shape'):
        load(tmp_path / "ragged")


def test_large_arrays_stay_on_disk_and_give_the_same_rows(tmp_path, monkeypatch):
    values = RNG.normal(size=(30, 5)).astype(np.float32)
    parts = {"train": values[:20], "test": values[20:]}
    splits = {name: datasets.Dataset.from_dict({"x": part.tolist()}) for name, part in parts.items()}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    within = load(tmp_path / "set")
    monkeypatch.setattr("flowmaps.data.hugging_face.IN_MEMORY", 0)
    monkeypatch.setattr("flowmaps.data.arrays.IN_MEMORY", 0)
    monkeypatch.setattr("flowmaps.data.array_format.CHUNK", 100)  # looked through in several pieces
    on_disk, sizes = load(tmp_path / "set"), []
    read = ArrayColumn._read
    monkeypatch.setattr(
        ArrayColumn, "_read", lambda self, part, rows: sizes.append(len(rows)) or read(self, part, rows)
    )
    assert torch.equal(on_disk.held_out(10).x0, within.held_out(10).x0)
    shares = on_disk.batches(8, seed=1, rows=slice(1, None, 2))
    for one, other in zip(shares, islice(within.batches(8, seed=1), 4), strict=False):
        assert torch.equal(one.x0, other.x0[1::2])
    assert set(sizes) == {4, 10} and sizes[0] == 10
    datasets.Dataset.from_dict({"v": [[1.0, 2.0], [3.0, 4.0], [1.0]]}).save_to_disk(tmp_path / "ragged")
    with pytest.raises(ValueError, match='column "v" of .* must all be numbers of one shape'):
        load(tmp_path / "ragged")


def test_a_data_set_by_name(tmp_path, monkeypatch):
    """A folder of parquet files goes the way of a name on the hub, without the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    table(10).to_parquet(tmp_path / "set" / "train.parquet")
    data = load(f"hf:{tmp_path / 'set'}")
    assert data.size == 8 and data.classes == 3 and data.recipe == {"name_or_path": f"hf:{tmp_path / 'set'}"}


def test_a_name_that_is_not_there(monkeypatch):
    def missing(name, config):
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(
        FileNotFoundError, match='no Hugging Face data set "nobody/nothing", or it cannot be reached: Could'
    ):
        load("hf:nobody/nothing")
