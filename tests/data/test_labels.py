"""Labels as a condition: who takes them, who uses them, and the condition of a batch."""

import pytest
import torch
from torch import nn

from flowmaps.data import Batch, as_data, load
from flowmaps.data.labels import condition_of, takes_labels, uses_labels
from flowmaps.networks import MLP


class Named(nn.Module):
    def forward(self, x, s, t, label):
        return x


class Anything(nn.Module):
    def forward(self, x, s, t, **condition):
        return x


class Plain(nn.Module):
    def forward(self, x, s, t):
        return x


def test_a_network_takes_labels_if_it_was_built_with_classes_or_its_forward_accepts_them():
    assert takes_labels(MLP(2, 8, 1, classes=3)) and not takes_labels(MLP(2, 8, 1))
    assert takes_labels(Named()) and takes_labels(Anything()) and not takes_labels(Plain())


def test_labels_are_used_if_the_data_have_them_and_the_network_takes_them():
    digits, vectors = load("digits"), as_data(torch.randn(20, 3))
    assert uses_labels(Named(), digits) and not uses_labels(Plain(), digits)
    assert not uses_labels(Named(), digits, False) and uses_labels(Plain(), digits, True)
    assert not uses_labels(Named(), vectors)
    with pytest.raises(ValueError, match="needs data with class labels"):
        uses_labels(Named(), vectors, True)


def test_the_condition_of_a_batch_is_its_label_and_everything_given_by_name():
    x, label, text = torch.randn(4, 2), torch.arange(4), torch.randn(4, 5)
    assert condition_of(Batch(x), True) is None and condition_of(Batch(x, label), False) is None
    assert condition_of(Batch(x, label), True) == {"label": label}
    both = condition_of(Batch(x, label, given={"text": text}), True)
    assert list(both) == ["label", "text"] and both["text"] is text
    assert list(condition_of(Batch(x, label, given={"text": text}), False)) == ["text"]
