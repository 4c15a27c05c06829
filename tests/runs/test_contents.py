"""The contents of every kind of data set: equal when they are read again, different when rows or labels change."""

import json
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

import flowmaps as fm
from flowmaps.data import arrays, as_data, load, pictures
from flowmaps.data.transforms import drawn_from_moments
from flowmaps.runs.contents import contents

N = 60
X = torch.randn(N, 2, generator=torch.Generator().manual_seed(0))
LABEL = torch.arange(N) % 3
OTHER = LABEL.flip(0)


class Items(Dataset):
    """A data set of somebody else's, with or without a list of its labels."""

    classes = ("a", "b", "c")

    def __init__(self, x, label, listed=True, noise=0.0):
        self.x, self.label, self.noise = x, label, noise
        if listed:
            self.targets = label.tolist()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row] + self.noise * torch.randn(2), int(self.label[row])


class Batches(IterableDataset):
    """Batches without a length."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x.split(10))


def table(x, label=None, **given):
    return arrays.array_data(x.numpy(), label, given={name: value.numpy() for name, value in given.items()})


TEXT = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
KINDS = {
    "tensor": lambda x, label: as_data((x, label)),
    "array": lambda x, label: as_data((x.numpy(), label.numpy())),
    "conditions": lambda x, label: table(X, None, text=TEXT + x[:1, :1], other=label[:, None].float()),
    "torch data set": lambda x, label: as_data(Items(x, label)),
    "torch data set without a list": lambda x, label: as_data(Items(x, label, listed=False)),
    "subset": lambda x, label: as_data(Subset(Items(x, label), range(50)), classes=3),
    "random split": lambda x, label: as_data(
        random_split(Items(x, label), [50, 10], torch.Generator().manual_seed(0))[0], classes=3
    ),
    "loader": lambda x, label: as_data(DataLoader(Items(x, label), batch_size=10, shuffle=True), classes=3),
    "loader of tensors": lambda x, label: as_data(DataLoader(TensorDataset(x, label), 10, shuffle=True), classes=3),
    "batches": lambda x, label: as_data([(x, label)], classes=3),
    "stream": lambda x, label: as_data(Batches(torch.cat([x, label[:, None]], 1))),
    "moments": lambda x, label: drawn_from_moments(as_data((x, label))),
    "conditions of no data": lambda x, label: fm.data.no_data((2,), prompts={"text": x, "number": label[:, None]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_contents_are_the_same_when_read_again_and_others_for_other_rows_or_labels(kind):
    make = KINDS[kind]
    torch.manual_seed(0)
    first = contents(make(X, LABEL), whole=True)
    torch.manual_seed(1)
    assert contents(make(X, LABEL), whole=True) == first and json.loads(json.dumps(first)) == first
    assert "unstable" not in json.dumps(first)
    assert contents(make(X + 1, LABEL)) != contents(make(X, LABEL))
    assert contents(make(X, OTHER)) != contents(make(X, LABEL))


@pytest.mark.parametrize("kind", ["tensor", "array", "torch data set", "subset", "loader", "loader of tensors"])
def test_two_labels_that_change_places_are_seen(kind):
    label = LABEL.clone()
    label[[31, 32]] = label[[32, 31]]
    assert contents(KINDS[kind](X, label)) != contents(KINDS[kind](X, LABEL))


def test_items_that_are_random_are_not_compared_but_their_labels_are():
    torch.manual_seed(0)
    state, first = torch.get_rng_state(), contents(as_data(Items(X, LABEL, noise=0.1)))
    assert first["items"] == "unstable" and "sha256" not in first
    assert first == contents(as_data(Items(X + 1, LABEL, noise=0.1)))
    assert first != contents(as_data(Items(X, OTHER, noise=0.1)))
    contents(as_data(Items(X, LABEL, noise=0.1)))
    torch.manual_seed(0)
    data = as_data(Items(X, LABEL, noise=0.1))
    before = torch.get_rng_state()
    contents(data)
    assert torch.equal(torch.get_rng_state(), before) and not torch.equal(before, state)


def test_couplings_are_known_by_their_labels():
    """Their rows are computed anew from a teacher, which is described itself."""
    torch.manual_seed(0)
    teacher = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=3))
    one, again, other = (
        fm.data.reflow(teacher, as_data((X, label)), n=40, steps=1) for label in (LABEL, LABEL.clone(), OTHER)
    )
    assert contents(one) == contents(again) != contents(other) and contents(one).keys() == {"label"}


def test_training_rows_alone_count():
    """Held-out rows decide no number of training."""
    data = as_data(X)
    other = X.clone()
    other[data.source.test.index] = 0
    assert contents(as_data(other)) == contents(data)
    other[data.source.train.index[0]] = 0
    assert contents(as_data(other)) != contents(data)


def test_a_mapped_array_is_sampled_and_its_time_of_change_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    x = torch.randn(1000, 2)
    index = load_npy(tmp_path, x).source.train.index

    def differing(row, whole=False):
        other = x.clone()
        other[row] = 9
        one, two = (contents(load_npy(tmp_path, rows), whole) for rows in (x, other))
        return {name for name in one if one[name] != two[name]}

    assert differing(index[3]) == {"modified"} and differing(index[0]) == {"modified", "sha256"}
    assert differing(index[3], whole=True) == {"modified", "whole_sha256"}


def load_npy(folder, x):
    """Write rows to a file, with a time of change of its own, and load them."""
    file = folder / f"{len(list(folder.iterdir()))}.npy"
    np.save(file, x.numpy())
    os.utime(file, ns=(0, len(list(folder.iterdir())) * 10**9))
    return load(str(file), standardise=False)


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_of_files_are_known_by_name_size_bytes_and_label(in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "IN_MEMORY", 2**29 if in_memory else 0)
    for index in range(12):
        file = tmp_path / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        file.with_suffix(".txt").write_text(f"number {index}")
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (4, 4), dtype=np.uint8)).save(file)
    data = load(str(tmp_path), captions=True)
    first = contents(data)
    assert set(first) == {"rows", "files", "modified", "images", "label", "prompts"} and first["rows"] == data.size
    (tmp_path / "a" / "0.txt").write_text("another text")
    now = contents(load(str(tmp_path), captions=True))
    assert {name for name in first if first[name] != now[name]} == {"prompts"}
    assert contents(load(str(tmp_path), labels=False)).keys() == {"rows", "files", "modified", "images"}


def test_a_user_source_is_known_by_its_tensors():
    class Mine:
        size = None

        def __init__(self, x):
            self.x = x

        def batches(self, batch_size, seed, start, rows):
            yield fm.data.Batch(self.x[:batch_size])

    def data(x):
        return fm.data.Data("mine", (2,), Mine(x), "points")

    assert contents(data(X)) == contents(data(X.clone())) != contents(data(X + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert json.dumps(contents(data(X)))
