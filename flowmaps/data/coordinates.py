"""Coordinates: the columns of a table of points on a manifold, and how points become rows of numbers and back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import expect_tensor, shown
from ..manifolds import SO3, Manifold, Sphere, Torus


@dataclass(frozen=True)
class Coordinates(ABC):
    """Base class of coordinates: names of columns, and their numbers for each point of a manifold.

    The config.json of a run holds the coordinates of its data, so that samples become a table without the data.

    Args:
        names: Names of the columns.

    Raises:
        ValueError: Two columns have one name, or their number is wrong.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if len(set(self.names)) < len(self.names) or not self.names:
            raise ValueError(f"columns have different names, got {shown(self.names)}")

    @property
    @abstractmethod
    def manifold(self) -> Manifold:
        """The manifold of the points."""

    @abstractmethod
    def encode(self, numbers: Tensor) -> Tensor:
        """Points of numbers.

        Args:
            numbers: Numbers (N, columns), in the units of the table.

        Returns:
            Points (N, size).
        """

    def decode(self, x: Tensor) -> Tensor:
        """Numbers of points.

        Args:
            x: Points (N, size).

        Returns:
            Numbers (N, columns), in the units of the table and the dtype of x.

        Raises:
            ValueError: The rows have another shape.
        """
        expect_tensor("x", x)
        if x.ndim != 2 or x.shape[1] != self.manifold.size:
            raise ValueError(f"points with these columns have shape (N, {self.manifold.size}), got {tuple(x.shape)}")
        return self._decoded(x.double()).to(x.dtype)

    @abstractmethod
    def _decoded(self, x: Tensor) -> Tensor:
        """Numbers of points (N, size) in float64."""

    def _expect(self, count: int) -> None:
        """Raise ValueError unless there are as many columns."""
        if len(self.names) != count:
            raise ValueError(f"{type(self).__name__} has {count} columns, got {shown(self.names)}")


@dataclass(frozen=True)
class LatitudeLongitude(Coordinates):
    """Latitude and longitude on the globe: x = (cos lat cos lon, cos lat sin lon, sin lat).

    Args:
        names: Names of both columns.
        radians: Whether the table holds radians instead of degrees.

    Raises:
        ValueError: There are not two different names.
    """

    names: tuple[str, ...] = ("latitude", "longitude")
    radians: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect(2)

    @property
    def manifold(self) -> Sphere:
        """The globe."""
        return Sphere(2)

    def encode(self, numbers: Tensor) -> Tensor:
        """Unit vectors (N, 3) of latitudes and longitudes (N, 2)."""
        latitude, longitude = _turned(numbers, self.radians).unbind(-1)
        level = latitude.cos()
        return torch.stack((level * longitude.cos(), level * longitude.sin(), latitude.sin()), -1)

    def _decoded(self, x: Tensor) -> Tensor:
        latitude = torch.atan2(x[:, 2], x[:, :2].norm(dim=1))
        return _in_units(torch.stack((latitude, torch.atan2(x[:, 1], x[:, 0])), 1), self.radians)


@dataclass(frozen=True)
class Angles(Coordinates):
    """Angles on a torus, each in (-180, 180] degrees in the table and in (-pi, pi] in rows.

    Args:
        names: Names of the angles.
        radians: Whether the table holds radians instead of degrees.

    Raises:
        ValueError: Two angles have one name, or there is none.
    """

    radians: bool = False

    @property
    def manifold(self) -> Torus:
        """The torus of these angles."""
        return Torus(len(self.names))

    def encode(self, numbers: Tensor) -> Tensor:
        """Angles (N, n) in radians."""
        return self.manifold.point(_turned(numbers, self.radians))

    def _decoded(self, x: Tensor) -> Tensor:
        return _in_units(self.manifold.point(x), self.radians)


@dataclass(frozen=True)
class Quaternions(Coordinates):
    """Quaternions (w, x, y, z) of rotations; of q and -q the one whose first number that is not 0 is positive.

    Args:
        names: Names of the four columns.

    Raises:
        ValueError: There are not four different names.
    """

    names: tuple[str, ...] = ("w", "x", "y", "z")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect(4)

    @property
    def manifold(self) -> SO3:
        """The rotations of space."""
        return SO3()

    def encode(self, numbers: Tensor) -> Tensor:
        """Quaternions (N, 4) with their sign in normal form; their norm stays."""
        first = (numbers.abs() > TINY).to(torch.int8).argmax(-1, keepdim=True)
        return torch.where(numbers.gather(-1, first) < 0, -numbers, numbers)

    def _decoded(self, x: Tensor) -> Tensor:
        return self.encode(self.manifold.point(x))


TINY = 1e-9
"""Size of a number of a quaternion that counts as 0 for its sign."""


def names_of_angles(count: int) -> tuple[str, ...]:
    """Names of angles without names."""
    return tuple(f"angle_{at}" for at in range(count))


def _turned(angles: Tensor, radians: bool) -> Tensor:
    """Angles of a table in radians."""
    return angles if radians else angles * (math.pi / 180)


def _in_units(angles: Tensor, radians: bool) -> Tensor:
    """Angles in the units of a table."""
    return angles if radians else angles * (180 / math.pi)


def columns_named(names: Sequence[str], usual: Sequence[Sequence[str]]) -> list[str]:
    """The columns with usual names.

    Args:
        names: Names of the columns.
        usual: Usual names of each wanted column, in small letters and without spaces.

    Returns:
        One name for each wanted column; an empty list unless each has exactly one.
    """
    simple = {name: name.strip().lower().replace(" ", "_") for name in names}
    found = [[name for name in names if simple[name] in group] for group in usual]
    return [columns[0] for columns in found] if all(len(columns) == 1 for columns in found) else []
