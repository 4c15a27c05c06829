"""The figures of each kind of manifold: the choice, and both figures of it."""

import pytest
import torch
from matplotlib.collections import PathCollection

import flowmaps as fm
from flowmaps.figures import disc
from flowmaps.figures.manifolds import sight, sight_of
from flowmaps.manifolds import SO3, Euclidean, Hyperbolic, Product, Sphere, Torus


def prior(manifold, n=40):
    return manifold.noise(torch.randn(n, manifold.size, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("manifold", "panels"),
    [
        (Sphere(2), 4),
        (Sphere(1), 2),
        (Torus(3), 4),
        (SO3(), 6),
        (Hyperbolic(2), 2),
        (Euclidean(2), 2),
        (Product(Euclidean(3), Torus(1), Sphere(2)), 2),
    ],
    ids=["sphere", "circle", "torus", "rotations", "disc", "plane", "product"],
)
def test_points_are_drawn_beside_others_and_on_a_card(manifold, panels):
    seen, x = sight(manifold), prior(manifold)
    assert len(seen.whole(x, beside=x[:20]).axes) == panels
    [axis] = seen.card(x)(x).axes
    assert axis.collections or axis.patches  # dots, or bars of a histogram


@pytest.mark.parametrize("manifold", [Sphere(3), Euclidean(3), Hyperbolic(3), Product(Sphere(3))], ids=str)
def test_other_manifolds_are_not_drawn(manifold):
    assert sight(manifold) is None


def test_cards_have_the_view_of_the_real_points():
    south = torch.nn.functional.normalize(prior(Sphere(2)) * 0.1 + torch.tensor([0.0, 0.0, -1.0]), dim=1)
    [axis] = sight(Sphere(2)).card(south)(-south).axes
    assert sum(len(dots.get_offsets()) for dots in axis.collections if isinstance(dots, PathCollection)) < 10


def test_the_sphere_is_the_earth_if_its_points_are_latitudes_and_longitudes():
    data = fm.data.sphere(torch.tensor([[10.0, 100.0], [20.0, 30.0], [-50.0, 120.0]]))
    x = data.draw(3).x0
    land, bare = (seen.card(x)(x).axes[0].lines for seen in (sight_of(data), sight(Sphere(2))))
    assert len(land) == len(bare) + 1  # the coast lines
    assert sight_of(fm.data.load("checkerboard")) is None


def test_the_disc_shows_distances():
    r = torch.tensor([0.0, 1.0, 2.0])
    x = torch.stack((r.cosh(), r.sinh(), torch.zeros(3)), 1)
    [axis] = disc(x).axes
    [dots] = [one for one in axis.collections if isinstance(one, PathCollection)]
    torch.testing.assert_close(torch.as_tensor(dots.get_offsets().data)[:, 0].float(), (r / 2).tanh())
    with pytest.raises(ValueError, match="hyperboloid, and 3 of 3 rows are not"):
        disc(x + 1)
