"""Projections of the sphere: inverses, equal areas, the horizon and the sides of the map; the land of the earth."""

import math

import pytest
import torch

from flowmaps.figures import land
from flowmaps.figures.projections import EqualEarth, Orthographic
from flowmaps.manifolds import Sphere

VIEWS = [Orthographic(35.0, -110.0), Orthographic(-90.0, 0.0), EqualEarth(), EqualEarth(150.0)]


def degrees(*pairs):
    """Unit vectors of pairs (latitude, longitude)."""
    return land.unit(*torch.tensor(pairs, dtype=torch.float64).unbind(-1))


def uniform(n):
    """Uniform points of the sphere."""
    return Sphere(2).noise(torch.randn(n, 3, generator=torch.Generator().manual_seed(0)).double())


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_places_lead_back_to_points(view):
    x = uniform(1000)
    place, near = view.place(x)
    torch.testing.assert_close(view.sphere(*place.unbind(-1))[near], x[near], atol=1e-7, rtol=0)
    assert (place.abs() <= torch.tensor(view.size)).all()
    middle, _ = view.place(degrees((view.latitude if isinstance(view, Orthographic) else 0.0, view.longitude)))
    torch.testing.assert_close(middle, torch.zeros_like(middle), atol=1e-12, rtol=0)


def test_a_half_of_the_sphere_is_hidden_on_a_globe():
    view, x = Orthographic(20.0, 30.0), uniform(1000)
    _, near = view.place(x)
    assert torch.equal(near, (x @ degrees((20.0, 30.0))[0]) >= 0)


def test_the_flat_map_keeps_areas_and_the_globe_does_not():
    """The Jacobian of (longitude, sine of latitude), whose area is the sphere's, is 1."""
    x = degrees(*((lat, lon) for lat in (-80.0, -45.0, 5.0, 60.0, 85.0) for lon in (-170.0, 0.0, 100.0)))

    def areas(view):
        def place(longitude, sine):
            level = (1 - sine**2).sqrt()
            return view.place(torch.stack((level * longitude.cos(), level * longitude.sin(), sine), -1))[0]

        pairs = torch.atan2(x[:, 1], x[:, 0]), x[:, 2]
        jacobians = [torch.autograd.functional.jacobian(place, pair) for pair in zip(*pairs, strict=True)]
        return torch.stack([torch.stack(jacobian, -1).det() for jacobian in jacobians])

    torch.testing.assert_close(areas(EqualEarth(20.0)), torch.ones(15).double(), atol=1e-9, rtol=0)
    assert areas(Orthographic(0.0, 0.0)).std() > 0.3


def test_lines_end_at_the_horizon():
    view = Orthographic(0.0, 0.0)
    ends = torch.stack((degrees((0, 80), (0, 95), (10, 100)), degrees((0, 100), (0, 85), (20, 120))), 1)
    pieces = view.pieces(ends)
    assert len(pieces) == 2  # the third line is on the far side
    torch.testing.assert_close(pieces[0, 1], torch.tensor([1.0, 0.0]).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(pieces[1, 0], torch.tensor([1.0, 0.0]).double(), atol=1e-9, rtol=0)


def test_lines_are_cut_at_the_sides_of_the_map_and_never_cross_it():
    ends = torch.stack((degrees((10, 175), (10, -170)), degrees((20, -175), (10, 170))), 1)
    pieces, side = EqualEarth().pieces(ends), EqualEarth().place(degrees((15, 180)))[0][0, 0].abs()
    assert len(pieces) == 4 and (pieces[:, 0] - pieces[:, 1]).norm(dim=-1).max() < 0.3
    torch.testing.assert_close(pieces[0, 1], -pieces[2, 0] * torch.tensor([1, -1]))
    torch.testing.assert_close(pieces[0, 1, 0], side)
    assert (EqualEarth(180.0).pieces(ends)).shape[0] == 2  # no cut on a map of the Pacific
    for view in VIEWS:
        pieces = view.pieces(torch.cat((land.coast(), land.graticule())))
        assert (pieces[:, 0] - pieces[:, 1]).norm(dim=-1).max() < 0.15


def test_the_land_of_the_earth():
    dry = [(48.9, 2.3), (-25, 135), (-90, 0), (67, 179), (67, -179)]  # with the pole, and Chukotka at the date line
    wet = [(0, -30), (90, 0), (42, 50.5), (20, 180)]  # with the Caspian Sea
    assert (land.share_of_land(degrees(*dry)) == 1).all() and (land.share_of_land(degrees(*wet)) == 0).all()
    # 29 % of the earth is land; standard error .002
    assert abs(float(land.share_of_land(uniform(40_000)).mean()) - 0.29) < 0.01


def test_coast_lines_are_short_and_keep_away_from_the_date_line():
    ends = land.coast()
    torch.testing.assert_close(ends.norm(dim=-1), torch.ones(ends.shape[:2]).double())
    assert (ends[:, 0] - ends[:, 1]).norm(dim=-1).max() < 0.12
    along = (ends[..., 1].abs() < 1e-4).all(1) & (ends[..., 0] < 0).all(1)  # both ends on longitude 180
    assert not (along & ((ends[:, 0] - ends[:, 1]).norm(dim=-1) > 1e-3)).any()


def test_values_of_a_grid_are_interpolated_also_across_the_date_line():
    lines = torch.deg2rad(torch.arange(89.5, -90, -1)), torch.deg2rad(torch.arange(-179.5, 180, 1))
    latitude, longitude = torch.meshgrid(*(line.double() for line in lines), indexing="ij")
    grid = (latitude.cos() * (longitude - math.pi).cos())[None, None]  # minus the first coordinate
    x = torch.cat((uniform(1000), degrees((0, 180), (5, -179.9), (5, 179.9))))
    torch.testing.assert_close(land.at(grid, x), -x[:, 0], atol=5e-3, rtol=0)
