"""Single manifolds: derivatives near the diagonal, signs of rotations, priors, products, files, refusals."""

import json
import math

import pytest
import torch
from torch.func import jacrev, vmap

import flowmaps as fm
from flowmaps.derivative import jvp
from flowmaps.manifolds import SO3, Euclidean, Hyperbolic, Manifold, Product, Sphere, Torus
from flowmaps.serialise import build, describe
from tests.manifolds.spaces import SPACES, directions, numbers, points


def log_derivative_error(log, gap, dtype):
    """Largest error of d(log_. y)_x[v] at a distance, projected at x; the truth is -v_par - theta cot(theta) v_perp."""
    sphere, x = Sphere(2), points(Sphere(2), 64, dtype=torch.float64)
    u, v = directions(sphere, x), directions(sphere, x, 2)
    y = sphere.exp(x, gap * u)
    along = (v * u).sum(-1, keepdim=True) * u
    truth = -along - gap / math.tan(gap) * (v - along)
    x, y, v = x.to(dtype), y.to(dtype), v.to(dtype)
    found = jvp(lambda x: log(x, y), (x,), (v,))[1]
    return float((sphere.tangent(x, found).double() - truth).abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_derivative_of_log_is_right_down_to_gaps_of_a_millionth(dtype):
    for gap in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        assert log_derivative_error(Sphere(2).log, gap, dtype) < 1e-4, gap


def test_the_derivative_of_the_log_of_geoopt_is_wrong_there():
    import geoopt

    log = geoopt.Sphere().logmap
    assert log_derivative_error(log, 1e-1, torch.float64) < 1e-4
    assert log_derivative_error(log, 1e-2, torch.float32) > 0.5
    assert log_derivative_error(log, 1e-5, torch.float64) > 1.0


def test_signs_of_rotations():
    """Logarithms read the nearer sign; geodesics move the data, so that the noise keeps both signs."""
    space, x, y = SO3(), points(SO3(), 400), points(SO3(), 400, seed=2)
    assert torch.equal(space.distance(x, y), space.distance(x, -y))
    assert torch.allclose(space.log(x, y), space.log(x, -y)) and torch.allclose(space.log(-x, y), -space.log(x, y))
    a = torch.tensor([0.2, 1.5, 1.8, 3.0], dtype=torch.float64)
    turn = torch.stack([a.cos(), a.sin(), 0 * a, 0 * a], -1)
    one = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(space.distance(one, turn), torch.minimum(a, math.pi - a))  # half of the rotation angle 2a
    t = torch.zeros(400, 1, dtype=torch.float64)
    assert torch.allclose(space.geodesic(x, y, t + 1), y)
    start = space.geodesic(x, y, t)
    sign = (start * x).sum(-1)
    assert torch.allclose(sign.abs(), t[:, 0] + 1) and abs(float(sign.mean())) < 4 / 20  # s.e. 1/sqrt(400)
    assert ((start * y).sum(-1) >= 0).all()


def test_uniform_priors():
    """The areas in closed form, and second moments of draws; their standard error is below 1/sqrt(n)."""
    areas = {Sphere(1): 2 * math.pi, Sphere(2): 4 * math.pi, Sphere(3): 2 * math.pi**2, SO3(): math.pi**2}
    for space, area in areas.items():
        x = points(space, 4000)
        assert torch.allclose(space.log_prior(x), torch.full((4000,), -math.log(area), dtype=x.dtype))
        assert (x.T @ x / 4000 - torch.eye(space.size) / space.size).abs().max() < 3 / 4000**0.5
    angles = points(Torus(2), 4000)
    assert torch.allclose(Torus(2).log_prior(angles), torch.full((4000,), -2 * math.log(2 * math.pi)).double())
    share = ((angles + math.pi) / (2 * math.pi)).sort(0).values
    assert (share - (torch.arange(4000.0)[:, None] + 0.5) / 4000).abs().max() < 2 / 4000**0.5
    assert (Torus(1).noise(torch.tensor([[-40.0], [40.0]])) == math.pi).all()  # in (-pi, pi]


def test_the_prior_of_hyperbolic_space_is_the_law_of_its_noise():
    """By the change of variables of its last coordinates, whose volume is dx_1 ... dx_n / x_0."""
    space, normal = Hyperbolic(3), numbers(0, 32, 4)
    jacobian = vmap(jacrev(lambda w: space.noise(torch.cat([w[:1] * 0, w]))[1:]))(normal[:, 1:])
    x = space.noise(normal)
    density = -normal[:, 1:].square().sum(1) / 2 - 1.5 * math.log(2 * math.pi) - jacobian.det().log() + x[:, 0].log()
    assert torch.allclose(space.log_prior(x), density)
    flat = Euclidean(2).log_prior(normal[:, :2])
    assert torch.allclose(flat, torch.distributions.Normal(0, 1).log_prob(normal[:, :2]).sum(1))


def test_distances_of_hyperbolic_space():
    """arcosh(-<x, y>) where it has digits; the metric of the Lorentz product."""
    space, x, y = Hyperbolic(3), points(Hyperbolic(3)), points(Hyperbolic(3), seed=2)
    product = (x * y).sum(-1) - 2 * x[:, 0] * y[:, 0]
    assert torch.allclose(space.distance(x, y), torch.acosh(-product))
    u = space.tangent(x, numbers(3, *x.shape))
    assert torch.allclose(space.scale(x, u).square().sum(-1), u.square().sum(-1) - 2 * u[:, 0] ** 2)
    assert ((x * u).sum(-1) - 2 * x[:, 0] * u[:, 0]).abs().max() < 1e-9
    assert space.off(x).max() == 0 and space.off(2 * x).min() > 0.01


def test_rounding_far_from_the_origin_of_hyperbolic_space_grows_as_its_points_do():
    """By e^r, and not by e^(2r), as it does for arcosh(-<x, y>)."""
    space = Hyperbolic(2)
    for dtype, r, most in ((torch.float64, 10.0, 1e-9), (torch.float32, 6.0, 5e-4)):
        w = numbers(0, 200, 3) * torch.tensor([0.0, 1, 1])
        origin = torch.tensor([1.0, 0, 0]).double().expand(200, 3)
        x = space.exp(origin, r * w / w.norm(dim=-1, keepdim=True))
        u = directions(space, x).to(dtype)
        x = x.to(dtype)
        error = space.scale(x, space.log(x, space.exp(x, 2 * u)) - 2 * u)
        assert error.norm(dim=-1).max() < most


def test_a_product_acts_on_each_factor():
    parts = (Sphere(2), Torus(1), SO3())
    space = Product(*parts)
    assert (space.size, space.dim, space.reach) == (8, 6, math.pi / 2)
    x, y, t = points(space), points(space, seed=2), torch.full((64, 1), 0.3, dtype=torch.float64)
    blocks = [(x[:, :3], y[:, :3]), (x[:, 3:4], y[:, 3:4]), (x[:, 4:], y[:, 4:])]
    each = list(zip(parts, blocks, strict=True))
    assert torch.equal(space.log(x, y), torch.cat([part.log(*b) for part, b in each], -1))
    assert torch.equal(space.geodesic(x, y, t), torch.cat([part.geodesic(*b, t) for part, b in each], -1))
    assert torch.allclose(space.distance(x, y) ** 2, sum(part.distance(*b) ** 2 for part, b in each))
    assert torch.allclose(space.log_prior(x), sum(part.log_prior(b[0]) for part, b in each))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_flow_map_on_a_manifold_is_stored(space):
    flow = fm.FlowMap(fm.networks.MLP(space.size, width=8, depth=1), path=fm.path.Geodesic(space))
    assert build(json.loads(json.dumps(describe(flow)))).path.manifold == space


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Sphere(0), "n must be at least 1"),
        (lambda: Hyperbolic(0), "n must be at least 1"),
        (lambda: Product(), "at least one factor"),
        (lambda: Product(Sphere(2), 3), "a factor of a product is a manifold.*got 3"),
        (lambda: Product(Sphere(2), parts=[Torus(1)]), "got both"),
        (lambda: build({"type": "manifolds.Product", "arguments": {"parts": [2]}}), "takes parts as"),
        (lambda: build({"type": "manifolds.Manifold", "arguments": {}}), "no part"),
    ],
)
def test_wrong_factors_and_dimensions_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
    assert issubclass(Product, Manifold)
