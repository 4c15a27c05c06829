"""The digits against scikit-learn's own arrays."""

import torch
from sklearn.datasets import load_digits

from flowmaps.data import load


def test_digits_are_all_there_once_with_their_labels():
    data = load("digits")
    train, held = data.draw(1437), data.held_out(5000)
    assert data.size == 1437 and len(held.x0) == 360
    raw = load_digits()
    rows = torch.cat((train.x0, held.x0)).double().reshape(-1, 64) * 8 + 8
    expected = torch.cat((torch.tensor(raw.data), torch.tensor(raw.target)[:, None]), 1)
    found = torch.cat((rows, torch.cat((train.label, held.label))[:, None]), 1)
    assert sorted(found.tolist()) == sorted(expected.tolist())


def test_digits_describe_themselves():
    data = load("digits")
    assert (data.shape, data.kind, data.classes, data.levels) == ((1, 8, 8), "images", 10, 17)
    assert data.class_names == tuple("0123456789") and data.exact is None and data.log_prob is None
    x = data.draw(1437).x0
    assert float(x.min()) == -1 and float(x.max()) == 1 and len(x.unique()) == 17


def test_the_split_is_stratified():
    data = load("digits")
    counts = torch.bincount(torch.tensor(load_digits().target)).double()
    held = torch.bincount(data.held_out(360).label, minlength=10)
    assert bool(((held - counts * 360 / 1797).abs() <= 1).all())
