"""The data of `benchmarks.manifolds`: one set with an exact flow map, and points on the globe and on a torus."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

import flowmaps as fm

FOLDER = Path("benchmarks/data")
ZONAL = fm.exact.Zonal([0.6, 0.4], [1, -1], 20.0)
HELD_OUT = 0.1
"""Share of the distinct points that is held out, as in the papers."""
SECONDS = 30.0
"""Processor time of each training."""
SIZES = {"width": 128, "depth": 3}


@dataclass(frozen=True)
class Set:
    """A data set.

    Attributes:
        title: Its name in tables.
        data: Makes the data of a split.
        manifold: Its manifold.
        network: Makes the network.
        package: The package that has the data. None: they are here.
    """

    title: str
    data: Callable[[int], fm.data.Data]
    manifold: fm.manifolds.Manifold
    network: Callable[[], nn.Module]
    package: str | None = None


def on_globe(file: str) -> Callable[[int], fm.data.Data]:
    """The data of a file of latitudes and longitudes, for each split."""
    return lambda split: fm.data.sphere(FOLDER / "sphere" / file, held_out=HELD_OUT, seed=split)


def torsions(split: int) -> fm.data.Data:
    """Torsion angles of RNA, for a split."""
    return fm.data.torus(FOLDER / "torus" / "rna.tsv.gz", held_out=HELD_OUT, seed=split)


def airports(split: int) -> fm.data.Data:
    """Airports of the package `airportsdata`, for a split."""
    import airportsdata

    rows = [[one["lat"], one["lon"]] for one in airportsdata.load("ICAO").values()]
    return fm.data.sphere(torch.tensor(rows, dtype=torch.float64), held_out=HELD_OUT, seed=split)


def globe_network() -> nn.Module:
    """The network of sets on the globe."""
    return fm.networks.MLP(3, **SIZES)


def torus_network() -> nn.Module:
    """The network of seven angles, which sees them as points on circles."""
    return fm.networks.OnCircles(fm.networks.MLP(14, **SIZES), 7, range(7))


GLOBE = fm.manifolds.Sphere(2)
SETS = {
    "zonal": Set("zonal", lambda split: fm.data.as_data(ZONAL), GLOBE, globe_network),
    "earthquakes": Set("earthquakes", on_globe("earthquakes.csv"), GLOBE, globe_network),
    "volcanoes": Set("volcanoes", on_globe("volcanoes.csv"), GLOBE, globe_network),
    "fires": Set("fires", on_globe("fires.csv"), GLOBE, globe_network),
    "rna": Set("RNA torsions", torsions, fm.manifolds.Torus(7), torus_network),
    "airports": Set("airports", airports, GLOBE, globe_network, package="airportsdata"),
}


@cache
def data_of(name: str, split: int) -> fm.data.Data:
    """The data of a set and split."""
    return SETS[name].data(split)


def is_here(name: str) -> bool:
    """Whether the data of a set are at hand."""
    package = SETS[name].package
    return package is None or importlib.util.find_spec(package) is not None
