"""Points on manifolds: latitudes and longitudes, angles, rotations, and points in ambient coordinates."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import check_seed, given, truth, within
from ..manifolds import Manifold
from .coordinates import Angles, Coordinates, LatitudeLongitude, Quaternions, names_of_angles
from .core import HELD_OUT, Data, generator
from .number_tables import NumberTable, Usual, table_of
from .sources import Finite, SubsetRows, TensorRows

NEAR, ROUNDED = 1e-3, 1e-6
"""Distances to the manifold up to which points are projected to it, and up to which nothing is said of that."""
DIGITS = 9
"""Number of decimals by which points are told apart."""
LATITUDE = ("latitude", "lat", "latitude_deg", "lat_deg", "latitude_degrees", "decimallatitude")
LONGITUDE = ("longitude", "lon", "lng", "long", "longitude_deg", "lon_deg", "longitude_degrees", "decimallongitude")
OF_GLOBE = Usual((LATITUDE, LONGITUDE), "latitude and longitude")
OF_TORUS = Usual((), "angles")
OF_ROTATIONS = Usual(tuple((name, f"q{name}", f"q_{name}", f"quat_{name}") for name in "wxyz"), "quaternion w, x, y, z")


def sphere(
    source: Any, /, *, columns: Any = None, radians: bool | None = None, held_out: float = 0.2, seed: int = 0
) -> Data:
    """Read points on the globe, as unit vectors (cos lat cos lon, cos lat sin lon, sin lat).

    Lines of a file that start with # are left out. All copies of a point are either training rows or held out.

    Args:
        source: A file of text (.csv, .tsv, .txt, also .gz), an array (N, 2) of latitudes and longitudes, or an array
            (N, 3) of unit vectors.
        columns: Names of the columns of latitude and longitude, or their numbers in a file without a heading. None:
            those called latitude and longitude, lat and lon, or similar; without a heading the first two columns of
            numbers.
        radians: Whether the angles are in radians. None: in degrees, and angles that look like radians are refused.
        held_out: Share of the distinct points that is held out. 0: none.
        seed: Seed of the split.

    Returns:
        The data set, with its `manifold`, `fm.manifolds.Sphere(2)`, and its `coordinates`.

    Raises:
        TypeError: The source is neither a file nor an array.
        ValueError: Angles are out of range or in other units, a number is missing, vectors are no unit vectors, or
            there are fewer than two distinct points.
    """
    truth(**given(radians=radians))
    table = table_of(source, columns, OF_GLOBE)
    width = table.numbers.shape[1]
    if table.lines is None and width == 3:
        if radians is not None:
            raise ValueError("`radians` is for angles, and rows (N, 3) are unit vectors")
        coordinates = LatitudeLongitude()
        return _data(table, table.numbers, coordinates.manifold, coordinates, held_out, seed)
    if width != 2:
        raise ValueError(f"points on the globe have two columns, latitude and longitude, and {table.where} has {width}")
    _check_units(table, radians, math.pi / 2, 2 * math.pi)
    _check_globe(table, math.pi / 180 if radians else 1.0)
    coordinates = LatitudeLongitude(table.columns if table.headed else ("latitude", "longitude"), bool(radians))
    recipe = _recipe(source, table, held_out, seed, **given(radians=radians))
    return _data(table, coordinates.encode(table.numbers), coordinates.manifold, coordinates, held_out, seed, recipe)


def torus(
    source: Any, /, *, columns: Any = None, radians: bool | None = None, held_out: float = 0.2, seed: int = 0
) -> Data:
    """Read rows of angles as points on a torus, in radians in (-pi, pi].

    Lines of a file that start with # are left out. All copies of a point are either training rows or held out.

    Args:
        source: A file of text (.csv, .tsv, .txt, also .gz), or an array (N, n) of angles.
        columns: Names of the columns, or their numbers in a file without a heading. None: all columns of numbers.
        radians: Whether the angles are in radians. None: in degrees, and angles that look like radians are refused.
        held_out: Share of the distinct points that is held out. 0: none.
        seed: Seed of the split.

    Returns:
        The data set, with its `manifold`, `fm.manifolds.Torus(n)`, and its `coordinates`.

    Raises:
        TypeError: The source is neither a file nor an array.
        ValueError: Angles are in other units or beyond a full turn, a number is missing, or there are fewer than two
            distinct points.
    """
    truth(**given(radians=radians))
    table = table_of(source, columns, OF_TORUS)
    _check_units(table, radians, 2 * math.pi)
    turn = 2 * math.pi if radians else 360.0
    unit = "radians" if radians else "degrees"
    advice = f"angles in {unit} are expected, so choose the columns of angles with columns=[...], or wrap these"
    table.refuse((table.numbers.abs() > turn * (1 + ROUNDED)).any(1), "have an angle beyond a full turn", advice)
    names = table.columns if table.headed else names_of_angles(table.numbers.shape[1])
    coordinates = Angles(names, bool(radians))
    recipe = _recipe(source, table, held_out, seed, **given(radians=radians))
    return _data(table, coordinates.encode(table.numbers), coordinates.manifold, coordinates, held_out, seed, recipe)


def rotations(source: Any, /, *, columns: Any = None, held_out: float = 0.2, seed: int = 0) -> Data:
    """Read rotations of space as unit quaternions (w, x, y, z); a quaternion and its negative are one rotation.

    Lines of a file that start with # are left out. All copies of a rotation are either training rows or held out.

    Args:
        source: A file of text (.csv, .tsv, .txt, also .gz), or an array (N, 4) of quaternions.
        columns: Names of the columns in the order w, x, y, z, or their numbers in a file without a heading. None: those
            called w, x, y and z, or qw, qx, qy and qz; without a heading the first four columns of numbers.
        held_out: Share of the distinct rotations that is held out. 0: none.
        seed: Seed of the split.

    Returns:
        The data set, with its `manifold`, `fm.manifolds.SO3()`, and its `coordinates`.

    Raises:
        TypeError: The source is neither a file nor an array.
        ValueError: A norm differs from 1 by more than 1e-3, a number is missing, or there are fewer than two distinct
            rotations.
    """
    table = table_of(source, columns, OF_ROTATIONS)
    if table.numbers.shape[1] != 4:
        raise ValueError(f"rotations have four columns, w, x, y and z, and {table.where} has {table.numbers.shape[1]}")
    coordinates = Quaternions(table.columns if table.headed else ("w", "x", "y", "z"))
    recipe = _recipe(source, table, held_out, seed)
    return _data(table, coordinates.encode(table.numbers), coordinates.manifold, coordinates, held_out, seed, recipe)


def on_manifold(x: Any, manifold: Manifold, *, held_out: float = 0.2, seed: int = 0) -> Data:
    """Make a data set of points on any manifold.

    All copies of a point are either training rows or held out.

    Args:
        x: Points (N, size) in the ambient coordinates of the manifold.
        manifold: The manifold, such as `fm.manifolds.Sphere(5)`.
        held_out: Share of the distinct points that is held out. 0: none.
        seed: Seed of the split.

    Returns:
        The data set.

    Raises:
        TypeError: These are no points, or this is no manifold.
        ValueError: Points are further than 1e-3 from the manifold or not finite, or fewer than two are distinct.
    """
    if not isinstance(manifold, Manifold):
        raise TypeError(f"a manifold is an object such as fm.manifolds.Sphere(2), got {type(manifold).__name__}")
    table = table_of(x, None, OF_TORUS)
    if table.numbers.shape[1] != manifold.size:
        raise ValueError(f"points on {manifold} have {manifold.size} coordinates, got rows of {table.numbers.shape[1]}")
    return _data(table, table.numbers, manifold, None, held_out, seed)


def _check_units(table: NumberTable, radians: bool | None, *most: float) -> None:
    """Raise ValueError if all angles are as small as angles in radians, at most `most` in each column."""
    reach = table.numbers.abs().amax(0)
    if radians is None and bool((reach <= torch.tensor(most, dtype=reach.dtype) * (1 + ROUNDED)).all()):
        raise ValueError(
            f"the angles of {table.where} reach no further than {float(reach.max()):.4g}, so they may be in radians, "
            "and degrees are expected: pass radians=True for radians, or radians=False if these are degrees"
        )


def _check_globe(table: NumberTable, unit: float) -> None:
    """Raise ValueError for latitudes and longitudes out of range."""
    latitude, longitude = table.numbers.abs().unbind(1)
    swapped = bool((longitude <= 90 * unit * (1 + ROUNDED)).all())
    advice = (
        "latitude and longitude may be exchanged, so name the columns in this order, columns=[LATITUDE, LONGITUDE]"
        if swapped
        else "choose the columns with columns=[LATITUDE, LONGITUDE]"
    )
    words = "[-pi/2, pi/2]" if unit < 1 else "[-90, 90]"
    table.refuse(latitude > 90 * unit * (1 + ROUNDED), f"have a latitude outside of {words}", advice)
    table.refuse(longitude > 360 * unit * (1 + ROUNDED), "have a longitude beyond a full turn", advice)


def _recipe(source: Any, table: NumberTable, held_out: float, seed: int, **options: Any) -> dict[str, Any] | None:
    """The arguments that read a file again; None for an array."""
    if table.lines is None:
        return None
    return {"columns": list(table.columns), "held_out": held_out, "seed": seed, **options}


def _data(
    table: NumberTable,
    x: Tensor,
    manifold: Manifold,
    coordinates: Coordinates | None,
    held_out: float,
    seed: int,
    recipe: dict[str, Any] | None = None,
) -> Data:
    """The data set of points, projected to the manifold and split by distinct points."""
    within(0, 1, held_out=held_out)
    check_seed(seed)
    points, notes = _projected(table, x, manifold)
    where = table.where
    source, found = _split(points, where, held_out, seed)
    name = Path(where).name.split(".")[0] if table.lines is not None else "points"
    known: dict[str, Any] = {"coordinates": coordinates, "recipe": recipe, "notes": (*notes, *found)}
    return Data(name, (manifold.size,), source, "vectors", manifold=manifold, **known)


def _projected(table: NumberTable, x: Tensor, manifold: Manifold) -> tuple[Tensor, tuple[str, ...]]:
    """Points on the manifold, and a note about those that were moved."""
    off = manifold.off(x)
    advice = f"points up to {NEAR:g} off are projected"
    table.refuse(~(off <= NEAR), f"have points that are further than {NEAR:g} from {manifold}", advice)
    moved = int((off > ROUNDED).sum())
    if not moved:
        return manifold.point(x), ()
    where = f"{table.where} are up to {float(off.max()):.1g} off {manifold}"
    note = f"{moved} of the {len(x)} rows of {where} and are projected to it"
    warnings.warn(note, stacklevel=5)
    return manifold.point(x), (note,)


def _split(points: Tensor, where: str, held_out: float, seed: int) -> tuple[Finite, tuple[str, ...]]:
    """Training and held-out rows that share no point, and a note about copies."""
    distinct, number = (points.mul(10**DIGITS).round() + 0.0).unique(dim=0, return_inverse=True)
    count, rows = len(distinct), len(points)
    if count < 2:
        raise ValueError(f"{where} has {rows} rows and one distinct point: a data set has two or more")
    kept = min(max(round(held_out * count), 1), count - 1) if held_out else 0
    order = torch.randperm(count, generator=generator(seed, 0, HELD_OUT))
    held = torch.zeros(count, dtype=torch.bool).index_fill(0, order[:kept], True)[number]
    table = TensorRows(points.to(torch.get_default_dtype()))
    parts = [SubsetRows(table, mask.nonzero()[:, 0]) for mask in (~held, held)]
    note = f"{rows - count} of the {rows} rows of {where} are copies of others: {count} distinct points"
    return Finite(parts[0], parts[1] if kept else None), (note,) if count < rows else ()
