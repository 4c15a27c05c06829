"""The law of the page, and the training of its small flow maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

import flowmaps as fm
from flowmaps.data.toys import exact as as_data
from flowmaps.reports.explore_page.networks import record

CLASSES = ((0, 1), (2, 3), (4, 5))
"""Components of each class of the law."""
TRAINING: dict[str, Any] = {
    "batch_size": 256, "lr": 3e-3, "clip": 10.0, "labels": False, "progress_bar": False, "trackers": (),
    "sample_every": 0, "seed": 0,
}  # fmt: skip


def law() -> fm.exact.GaussianMixture:
    """Six equal Gaussians on a ring."""
    angle = torch.arange(6) * (math.pi / 3) + math.pi / 6
    return fm.exact.GaussianMixture([1 / 6] * 6, 1.5 * torch.stack((angle.cos(), angle.sin()), 1), 0.3)


def data() -> fm.data.Data:
    """The law as data."""
    return as_data(law(), "ring")


def network(width: int = 32, depth: int = 2, **options: Any) -> fm.networks.MLP:
    """A small network, with the same initial weights in every call."""
    torch.manual_seed(0)
    features = fm.networks.embeddings.Fourier(8, 1.0, 12.0)
    return fm.networks.MLP(
        2, width, depth, embedding=width // 2, features=features, waves=8, data_std=float(data().std), **options
    )


def snapshots(
    flow: fm.FlowMap,
    method: fm.Method,
    rows: fm.data.Data,
    steps: int,
    at: Sequence[float] = (1.0,),
    describe: Callable[[fm.FlowMap], Any] = lambda flow: record(flow, torch.float16),
    **training: Any,
) -> list[dict[str, Any]]:
    """Train a flow map and keep its average at some shares of the training.

    Args:
        flow: The flow map.
        method: The method.
        rows: The data.
        steps: Number of training steps.
        at: Shares of the steps, in (0, 1].
        describe: What is kept.
        **training: Changes of `TRAINING`.

    Returns:
        {"steps", "flow"} of each share.
    """
    moments = {max(1, round(share * steps)) for share in at}
    return [
        {"steps": state.step, "flow": describe(state.ema)}
        for state in fm.train(flow, method, rows, steps=steps, **{**TRAINING, **training})
        if state.step in moments
    ]
