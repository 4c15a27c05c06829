"""The adapter of geoopt: values, the prior's density, and refusals of derivatives that are wrong."""

import math
import sys

import geoopt
import pytest
import torch

from flowmaps.derivative import functorch, jvp
from flowmaps.manifolds import Hyperbolic, from_geoopt
from flowmaps.serialise import describe
from tests.manifolds.spaces import directions, length, numbers, points

pytestmark = pytest.mark.filterwarnings("ignore:no forward-mode rule for geoopt")


def ball():
    return from_geoopt(geoopt.PoincareBall(), 2)


def lorentz(x):
    """Points of the ball in the Lorentz model."""
    q = x.square().sum(-1, keepdim=True)
    return torch.cat([1 + q, 2 * x], -1) / (1 - q)


def test_the_ball_is_hyperbolic_space():
    """Distances, geodesics, velocities and the prior agree with those of the Lorentz model."""
    space, other = ball(), Hyperbolic(2)
    assert (space.size, space.dim, space.reach) == (2, 2, math.inf)
    x, y, t = points(space), points(space, seed=2), torch.full((64, 1), 0.7, dtype=torch.float64)
    assert torch.allclose(space.distance(x, y), other.distance(lorentz(x), lorentz(y)))
    assert torch.allclose(lorentz(space.geodesic(x, y, t)), other.geodesic(lorentz(x), lorentz(y), t))
    assert torch.allclose(length(space, space.geodesic(x, y, t), space.speed(x, y, t))[:, 0], space.distance(x, y))
    assert torch.allclose(space.log_prior(x), other.log_prior(lorentz(x)))
    normal = numbers(0, 64, 2)
    assert torch.allclose(
        other.log_prior(lorentz(x)), other.log_prior(other.noise(torch.cat([normal[:, :1], normal], 1)))
    )


def test_exp_has_derivatives_and_a_wrong_log_refuses_them():
    space = ball()
    x = points(space, 8)
    u = directions(space, x)
    for mode in (jvp, functorch):
        moved = mode(lambda u: space.exp(x, u), (0 * u,), (u,))[1]
        assert torch.allclose(moved, u)
        with pytest.raises(NotImplementedError, match="log of PoincareBall of geoopt in float64 at a distance of 0"):
            mode(lambda y: space.log(x, y), (x,), (u,))
    start = torch.zeros_like(u).requires_grad_()
    assert torch.equal(torch.autograd.grad(space.exp(x, start).sum(), start)[0], torch.ones_like(u))
    value = space.log(x, space.exp(x, start + u))
    assert torch.allclose(value, u)
    with pytest.raises(NotImplementedError, match="refused: fm.manifolds.Sphere"):
        value.sum().backward()


def test_right_derivatives_pass():
    for manifold, radius in ((geoopt.Euclidean(ndim=1), math.inf), (geoopt.SphereProjection(), 1.5)):
        space = from_geoopt(manifold, 2, radius=radius)
        x = points(space, 8)
        u = directions(space, x)
        assert space.wrong == "" and torch.allclose(jvp(lambda y, s=space, x=x: s.log(x, y), (x,), (u,))[1], u)
    with pytest.raises(NotImplementedError, match="no closed density"):
        space.log_prior(x)
    with pytest.raises(TypeError, match="cannot describe"):
        describe(space)


@pytest.mark.parametrize(
    "manifold, size, radius, message",
    [
        (geoopt.Sphere(), 3, 3.14, r"wrong by 3 \|u\| at \|u\| = 0.0001: fm.manifolds.Sphere"),
        (geoopt.Lorentz(), 3, math.inf, r"log\(x, exp\(x, u\)\) of Lorentz of geoopt"),
        (geoopt.SphereProjection(), 2, math.inf, "give the distance of the cut locus as radius="),
        (geoopt.EuclideanStiefel(), 3, math.inf, "have 2 axes"),
        (geoopt.Sphere, 3, math.inf, "expected a manifold of geoopt"),
        (geoopt.PoincareBall(), 0, math.inf, "size must be at least 1"),
        (geoopt.PoincareBall(), 2, -1.0, "radius must be positive"),
    ],
    ids=["sphere", "lorentz", "projection", "matrices", "class", "size", "radius"],
)
def test_what_is_wrong_is_refused(manifold, size, radius, message):
    with pytest.raises((TypeError, ValueError), match=message):
        from_geoopt(manifold, size, radius=radius)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "geoopt", None)
    with pytest.raises(ImportError, match=r"from_geoopt needs geoopt: pip install .*manifolds"):
        from_geoopt(None, 2)
