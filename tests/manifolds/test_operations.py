"""All manifolds: exp and log, their derivatives at every gap, geodesics and lengths."""

import math

import pytest
import torch

from flowmaps.derivative import functorch, jvp
from flowmaps.manifolds import SO3, Sphere, Torus
from tests.manifolds.spaces import SPACES, directions, length, numbers, points

GAPS = (0.0, 1e-6, 1e-3, 0.1, 1.0)
every = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@every
def test_log_inverts_exp_up_to_the_cut_locus(space):
    x = points(space)
    u = directions(space, x)
    for r in (0.0, 1e-9, 1e-6, 1e-3, 0.3, 1.0, 1.5, 3.0, min(space.reach, 6.0) - 1e-3):
        if r < space.reach:
            y = space.exp(x, r * u)
            assert space.off(y).max() < 1e-9 * math.exp(r)
            assert length(space, x, space.log(x, y) - r * u).max() < 1e-6
            assert (space.distance(x, y) - r).abs().max() < 1e-6


@every
def test_exp_inverts_log_for_any_two_points(space):
    x, y = points(space), points(space, seed=2)
    log = space.log(x, y)
    assert space.distance(space.exp(x, log), y).max() < 1e-6
    assert (space.tangent(x, log) - log).abs().max() < 1e-9
    assert (space.distance(x, y) - length(space, x, log)[:, 0]).abs().max() < 1e-9
    assert (space.distance(x, y) - space.distance(y, x)).abs().max() < 1e-9
    assert space.distance(x, x).max() == 0


@every
def test_derivatives_agree_with_differences_also_where_points_coincide(space):
    """Both points move: through exp, log and the projection, by dual numbers and by torch's forward mode."""
    x = points(space, 16)
    u, v, w = (directions(space, x, seed) for seed in (1, 2, 3))
    for gap in GAPS:
        y = space.exp(x, gap * u)

        def log(tau, y=y):
            return space.log(space.exp(x, tau * v), space.exp(y, tau * space.tangent(y, w)))

        def exp(tau, gap=gap):
            z = space.exp(x, tau * v)
            return space.exp(z, space.tangent(z, gap * u + tau * w))

        h = 1e-4
        for f in (log, exp):
            tau = torch.zeros(16, 1, dtype=x.dtype)
            slope = (8 * (f(tau + h) - f(tau - h)) - f(tau + 2 * h) + f(tau - 2 * h)) / (12 * h)
            for mode in (jvp, functorch):
                assert (mode(f, (tau,), (torch.ones_like(tau),))[1] - slope).abs().max() < 1e-6


@every
def test_reverse_gradients_are_the_transposed_derivatives_also_where_points_coincide(space):
    x = points(space, 16)
    u, v, c = directions(space, x), directions(space, x, 2), numbers(3, *x.shape)
    for gap in GAPS:
        for f, at in ((lambda y: space.log(x, y), space.exp(x, gap * u)), (lambda u: space.exp(x, u), gap * u)):
            at = at.clone().requires_grad_()
            gradient = torch.autograd.grad((c * f(at)).sum(), at)[0]
            forward = jvp(f, (at.detach(),), (v,))[1]
            assert torch.allclose((gradient * v).sum(-1), (c * forward).sum(-1), rtol=1e-8, atol=1e-8)


@every
def test_speed_is_the_velocity_of_the_geodesic(space):
    x, y = points(space, 32), points(space, 32, seed=2)
    for value in (0.0, 0.1, 0.5, 0.7, 1.0):
        t = torch.full((32, 1), value, dtype=x.dtype)
        z, slope = jvp(lambda t: space.geodesic(x, y, t), (t,), (torch.ones_like(t),))
        speed = space.speed(x, y, t)
        assert length(space, z, speed - slope).max() < 1e-6
        assert (length(space, z, speed)[:, 0] - space.distance(x, y)).abs().max() < 1e-6
    assert space.distance(space.geodesic(x, y, t), y).max() < 1e-6


@every
def test_scaled_vectors_have_the_length_of_the_metric(space):
    """A short step along u goes as far as the coordinates of u say, and they are linear in u."""
    x = points(space, 16)
    u, v = (space.tangent(x, numbers(seed, *x.shape)) for seed in (1, 2))
    assert torch.allclose(space.scale(x, u - 2 * v), space.scale(x, u) - 2 * space.scale(x, v), atol=1e-9)
    assert torch.allclose(space.distance(x, space.exp(x, 1e-4 * u)), 1e-4 * length(space, x, u)[:, 0], rtol=1e-7)


@every
def test_single_precision_keeps_short_and_long_vectors(space):
    x = points(space, dtype=torch.float32)
    u = directions(space, x)
    for r in (1e-6, 1e-4, 1e-2, 1.0, 1.5):
        error = length(space, x, space.log(x, space.exp(x, r * u)) - r * u)
        assert error.max() < 3e-5, r  # the rounding of the points, which grows with them in hyperbolic space
    y = x.clone().requires_grad_()
    assert torch.autograd.grad(space.log(x, y).sum(), y)[0].isfinite().all()


def test_at_the_cut_locus_a_shortest_geodesic_is_taken():
    """Antipodes on the sphere, half turns, and angles of pi: log has the right length and leads there."""
    x = points(Sphere(2))
    for y in (-x, Sphere(2).point(-x + 1e-14 * numbers(1, *x.shape))):
        log = Sphere(2).log(x, y)
        assert (log.norm(dim=-1) - math.pi).abs().max() < 1e-7
        assert (Sphere(2).exp(x, log) - y).abs().max() < 1e-7
    q = points(SO3())
    turned = SO3().exp(q, math.pi / 2 * directions(SO3(), q))
    assert (SO3().log(q, turned).norm(dim=-1) - math.pi / 2).abs().max() < 1e-9
    a = torch.tensor([[0.5, math.pi]], dtype=torch.float64)
    assert torch.equal(Torus(2).log(a, Torus(2).exp(a, torch.full_like(a, math.pi))), torch.full_like(a, math.pi))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere", "hyperbolic"])
def test_exp_and_log_compile_with_their_derivatives(name):
    space = SPACES[name]
    x = points(space, 8)
    u, v = directions(space, x), directions(space, x, 2)
    u = torch.cat([u[:4], 0 * u[4:]])  # half of the rows at gap 0

    def derivatives(x, u, v):
        y, dy = jvp(lambda u: space.exp(x, u), (u,), (v,))
        return y, dy, *jvp(lambda y: space.log(x, y), (y,), (dy,))

    compiled = torch.compile(derivatives, fullgraph=True, backend="aot_eager")
    for found, wanted in zip(compiled(x, u, v), derivatives(x, u, v), strict=True):
        assert torch.allclose(found, wanted, atol=1e-10)
    start = u.clone().requires_grad_()
    compiled(x, start, v)[3].sum().backward()
    assert start.grad.isfinite().all()


@every
def test_shares_of_the_way_to_the_cut_locus(space):
    x = points(space)
    u = directions(space, x)
    share = space.to_cut(x, 2 * u)
    assert torch.allclose(share, 2 * space.to_cut(x, u)) and (share <= 2 / space.reach + 1e-12).all()
    assert (space.to_pole(x, 2 * u) <= share).all() and bool((share == 0).all()) == math.isinf(space.reach)


@every
def test_normal_matrices_are_isometries_of_normal_spaces(space):
    """With a map of the tangent spaces they are invertible: the derivative of exp at 0 has the determinant 1."""
    x, y = points(space, 8), points(space, 8, seed=2)
    normal = space.normal(x, y)
    u = directions(space, x)
    assert (normal @ u[..., None]).abs().max() < 1e-9 and torch.linalg.matrix_rank(normal).eq(
        space.size - space.dim
    ).all()
    columns = torch.stack([space.tangent(x, e.expand_as(x)) for e in torch.eye(space.size).to(x)], -1)
    assert torch.allclose(torch.linalg.det(columns + space.normal(x, x)), torch.ones(8).double())
