"""Labels that training would use in a wrong way, or not at all, are announced."""

import warnings

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.data.transforms import LabelDropout, transformed
from tests.training.support import QUIET

LABELS = torch.arange(60) % 3
LABELLED = fm.data.as_data((torch.randn(60, 2), LABELS))


def said(flow, data=LABELLED, method="lsd", **settings):
    """The warnings of training."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fm.fit(flow, method, data, steps=1, **QUIET | settings)
    return [str(one.message) for one in found]


def mlp(classes):
    return fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=classes))


class Named(nn.Module):
    """A network whose last argument has this name."""

    def __init__(self, name):
        super().__init__()
        self.linear, self.table = nn.Linear(4, 2), nn.Embedding(4, 2)
        names = {"self": self}
        call = f"self.add(x, s, t, {name})"
        exec(f"def forward(x, s, t, *, {name}=None): return {call}", names)
        self.forward = names["forward"]

    def add(self, x, s, t, label):
        h = self.linear(torch.cat([x, s[:, None], t[:, None]], 1))
        return h if label is None else h + self.table(label)


@pytest.mark.parametrize("name", ["y", "labels", "class_labels"])
def test_labels_that_do_not_arrive_by_their_name_are_announced(name):
    flow = fm.FlowMap(Named(name))
    [found] = said(flow)
    assert "has labels, and they are not used" in found and f"takes `{name}`. Call this argument `label`" in found
    assert said(flow, labels=False) == said(fm.FlowMap(Named("label"))) == said(flow, torch.randn(60, 2)) == []


def test_a_network_of_fewer_classes_than_the_data_is_refused_or_announced():
    with pytest.raises(ValueError, match="has 3 classes, and the network was built for 1: build it with classes=3"):
        fm.train(mlp(1), "lsd", LABELLED, steps=1)
    with pytest.raises(ValueError, match="built for 1"):
        inner = fm.networks.MLP(2, width=8, depth=1, classes=1)
        fm.train(fm.FlowMap(fm.networks.InBasis(inner, torch.eye(2))), "lsd", LABELLED, steps=1)
    [found] = said(mlp(2))  # label 2 is the null class of this network
    assert "class 2 of tensor is also the null class" in found and "classes=3" in found
    assert said(mlp(3)) == said(mlp(4)) == said(mlp(None)) == said(mlp(2), labels=False) == []


def test_label_dropout_to_a_class_of_the_data_is_announced():
    [found] = said(mlp(3), transformed(LABELLED, LabelDropout(0.1, null=1)))
    assert "class 1 of tensor is also the null class" in found and "null=3" in found
    assert said(mlp(3), transformed(LABELLED, LabelDropout(0.1, null=3))) == []
