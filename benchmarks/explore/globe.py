"""Earthquakes on the globe: a map on the sphere, held-out points and coast lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.explore.shared import snapshots
from flowmaps.figures.land import polygons

FILE = Path("benchmarks/data/sphere/earthquakes.csv")
STEPS = 8_000


def tenths(degrees: Tensor) -> list[int]:
    """Latitudes and longitudes (N, 2), as whole tenths of degrees one after the other."""
    return (10 * degrees).round().int().flatten().tolist()


def coast() -> list[list[int]]:
    """Coast lines, each as latitudes and longitudes in tenths of degrees, without points nearer than a degree."""
    lines = []
    for polygon in polygons():
        for ring in polygon:
            kept = [ring[0]]
            for point in ring[1:-1]:
                if float((point - kept[-1]).norm()) >= 1.0:
                    kept.append(point)
            if len(kept) > 4:
                lines.append(tenths(torch.stack([*kept, ring[0]]).flip(1)))
    return lines


def part() -> dict[str, Any]:
    """The map, by the Lagrangian rule on the sphere."""
    rows = fm.data.sphere(FILE, held_out=0.1)
    torch.manual_seed(0)
    features = fm.networks.embeddings.Fourier(8, 1.0, 12.0)
    network = fm.networks.MLP(3, 64, 3, embedding=32, features=features, waves=32, frequency=3.0)
    flow = fm.FlowMap(network, path=fm.path.Geodesic(rows.manifold))
    (last,) = snapshots(flow, fm.methods.gfm_lsd(), rows, STEPS, batch_size=512)
    held_out = rows.coordinates.decode(rows.held_out(10**6).x0).unique(dim=0)
    return {"flow": last["flow"], "earthquakes": tenths(held_out), "coast": coast()}
