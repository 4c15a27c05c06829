"""Projections of the unit sphere to the plane: the globe as it is seen from far away, and a map of equal areas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .land import unit

SIDE = math.sqrt(3) / 2
EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)
"""Coefficients of theta, theta^3, theta^7 and theta^9 in the Equal Earth projection."""


@dataclass(frozen=True)
class Orthographic:
    """The sphere seen from far away, a disc of radius 1.

    Args:
        latitude: Latitude of the middle in degrees.
        longitude: Longitude of the middle in degrees.
    """

    latitude: float
    longitude: float

    @property
    def size(self) -> tuple[float, float]:
        """Half the width and half the height of the picture."""
        return 1.0, 1.0

    def axes(self) -> Tensor:
        """The rows (3, 3) are the unit vectors to the right (east), up (north), and towards the eye."""
        lat, lon = math.radians(self.latitude), math.radians(self.longitude)
        east = (-math.sin(lon), math.cos(lon), 0.0)
        north = (-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat))
        eye = (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))
        return torch.tensor((east, north, eye), dtype=torch.float64)

    def place(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (..., 2) of unit vectors (..., 3), and whether they are on the near side, (...)."""
        local = x.double() @ self.axes().T
        return local[..., :2], local[..., 2] >= 0

    def pieces(self, ends: Tensor) -> Tensor:
        """The visible parts (K, 2, 2) of lines between unit vectors (M, 2, 3), cut at the horizon."""
        local = ends.double() @ self.axes().T
        depth = local[..., 2]
        near = depth >= 0
        share = depth[:, :1] / torch.where(near[:, :1] == near[:, 1:], 1, depth[:, :1] - depth[:, 1:])
        crossing = torch.nn.functional.normalize(torch.lerp(local[:, 0], local[:, 1], share), dim=-1)
        cut = torch.where(near[..., None], local, crossing[:, None])
        return cut[near.any(1)][..., :2]

    def sphere(self, x: Tensor, y: Tensor) -> Tensor:
        """Unit vectors (..., 3) at positions x and y, which broadcast; on the horizon for those outside of the disc."""
        square = x**2 + y**2
        far = square.clamp(min=1).sqrt()
        return torch.stack((x / far, y / far, (1 - square).clamp(min=0).sqrt()), -1) @ self.axes()

    def light(self, x: Tensor) -> Tensor:
        """Brightness in [0, 1] of unit vectors (..., 3), less near the horizon, so that the disc looks like a ball."""
        depth = (x.double() @ self.axes()[2]).clamp(0, 1)
        return 1 - 0.3 * (1 - depth) ** 2

    def outline(self) -> Tensor:
        """The horizon, (N, 2)."""
        angle = torch.linspace(0, 2 * math.pi, 361, dtype=torch.float64)
        return torch.stack((angle.cos(), angle.sin()), -1)


@dataclass(frozen=True)
class EqualEarth:
    """A flat map of the whole sphere on which equal areas are equal, so the density of dots is the one on the sphere.

    Equal Earth projection of Savric, Patterson and Jenny (2019), International Journal of Geographical Information
    Science 33(3). With sin(theta) = sqrt(3)/2 sin(latitude):

        x = 2 sqrt(3) lon cos(theta) / (3 y'(theta)),    y = a_1 theta + a_2 theta^3 + a_3 theta^7 + a_4 theta^9

    Args:
        longitude: Longitude of the middle in degrees.
    """

    longitude: float = 0.0

    @property
    def size(self) -> tuple[float, float]:
        """Half the width and half the height of the picture."""
        width, height = self._plane(torch.tensor([[math.pi, 0.0], [0.0, math.pi / 2]])).diagonal().tolist()
        return width, height

    def place(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (..., 2) of unit vectors (..., 3), and whether they are on the map: all are."""
        return self._plane(self._angles(x)), torch.ones_like(x[..., 0], dtype=torch.bool)

    def pieces(self, ends: Tensor) -> Tensor:
        """Lines between unit vectors (M, 2, 3) as lines of the map (K, 2, 2), cut at its left and right side."""
        here = self._angles(ends)
        start, end = here.unbind(1)
        # an end on the other side of the map is reached through the nearer side
        turn = 2 * math.pi * ((start[:, 0] - end[:, 0]) / (2 * math.pi)).round()
        over = turn != 0
        near, far = start[over], end[over]
        side = math.pi * turn[over].sign()
        length = far[:, 0] + turn[over] - near[:, 0]
        share = ((side - near[:, 0]) / torch.where(length == 0, 1, length)).clamp(0, 1)
        latitude = torch.lerp(near[:, 1], far[:, 1], share)
        to_side = torch.stack((near, torch.stack((side, latitude), -1)), 1)
        from_side = torch.stack((torch.stack((-side, latitude), -1), far), 1)
        return self._plane(torch.cat((here[~over], to_side, from_side)))

    def sphere(self, x: Tensor, y: Tensor) -> Tensor:
        """Unit vectors (..., 3) at positions x and y, which broadcast; beside the map, at the nearest place on it."""
        theta = y / EQUAL_EARTH[0]
        for _ in range(8):  # Newton's method
            theta = (theta - (_height(theta) - y) / _slope(theta)).clamp(-math.pi / 3, math.pi / 3)
        longitude = (3 * x * _slope(theta) / (4 * SIDE * theta.cos())).clamp(-math.pi, math.pi)
        latitude = torch.asin((theta.sin() / SIDE).clamp(-1, 1))
        return unit(torch.rad2deg(latitude).expand_as(longitude), torch.rad2deg(longitude) + self.longitude)

    def light(self, x: Tensor) -> Tensor:
        """Brightness in [0, 1] of unit vectors (..., 3): 1."""
        return torch.ones_like(x[..., 0])

    def outline(self) -> Tensor:
        """The edge of the map, (N, 2)."""
        latitude = torch.linspace(-math.pi / 2, math.pi / 2, 91, dtype=torch.float64)
        side = torch.full_like(latitude, math.pi)
        right, left = torch.stack((side, latitude), -1), torch.stack((-side, latitude.flip(0)), -1)
        return self._plane(torch.cat((right, left, right[:1])))

    def _angles(self, x: Tensor) -> Tensor:
        """Longitude from the middle and latitude in radians, (..., 2)."""
        x = x.double()
        longitude = torch.atan2(x[..., 1], x[..., 0]) - math.radians(self.longitude)
        longitude = longitude - 2 * math.pi * (longitude / (2 * math.pi)).round()
        return torch.stack((longitude, torch.atan2(x[..., 2], x[..., :2].norm(dim=-1))), -1)

    def _plane(self, angles: Tensor) -> Tensor:
        """Positions (..., 2) of longitude and latitude in radians, (..., 2)."""
        longitude, latitude = angles.unbind(-1)
        theta = torch.asin(SIDE * latitude.sin())
        return torch.stack((4 * SIDE * longitude * theta.cos() / (3 * _slope(theta)), _height(theta)), -1)


Projection = Orthographic | EqualEarth


def _height(theta: Tensor) -> Tensor:
    """The height y of the Equal Earth projection."""
    a1, a2, a3, a4 = EQUAL_EARTH
    q = theta**2
    return theta * (a1 + q * (a2 + q * q * (a3 + a4 * q)))


def _slope(theta: Tensor) -> Tensor:
    """The derivative y' of the Equal Earth projection."""
    a1, a2, a3, a4 = EQUAL_EARTH
    q = theta**2
    return a1 + q * (3 * a2 + q * q * (7 * a3 + 9 * a4 * q))
