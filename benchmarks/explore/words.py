"""One token of three words: a map whose endpoint is a softmax, and one without it."""

from __future__ import annotations

from typing import Any

import torch

import flowmaps as fm
from benchmarks.explore.shared import snapshots
from flowmaps.data.toys import exact as as_data

WORDS = ("tea", "coffee", "water")
PROBABILITIES = (0.5, 0.3, 0.2)
STEPS = 2500


def network() -> fm.networks.MLP:
    """A small network on the one-hot rows."""
    torch.manual_seed(0)
    features = fm.networks.embeddings.Fourier(8, 1.0, 12.0)
    return fm.networks.MLP((1, 3), 32, 2, embedding=16, features=features, waves=8, data_std=0.5)


def part() -> dict[str, Any]:
    """The law and the two maps."""
    law = fm.exact.Categorical(torch.tensor(PROBABILITIES, dtype=torch.float64))
    rows = as_data(law, "words")
    linked = fm.FlowMap(network(), fm.outputs.Endpoint(link=fm.links.softmax))
    (softmax,) = snapshots(linked, fm.methods.dfm_psd(), rows, STEPS)
    # the second map predicts V as in flat space; both see the same data in the same number of steps
    (free,) = snapshots(fm.FlowMap(network()), fm.methods.lsd(), rows, STEPS)
    return {"words": WORDS, "probabilities": PROBABILITIES, "softmax": softmax["flow"], "free": free["flow"]}
