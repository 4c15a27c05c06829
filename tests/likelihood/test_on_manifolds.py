"""Log-densities by the ODE on manifolds: laws in closed form, integrals of one, refusals."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps import likelihood
from flowmaps.likelihood import adaptive, differences, exact, grid, hutchinson, log_prob, ode
from flowmaps.manifolds import SO3, Euclidean, Hyperbolic, Product, Sphere, Torus
from tests.manifolds.spaces import numbers, points

A = 0.7
"""Rate of the fields: they gather noise as time falls, or spread it."""


FEW = ode(steps=2)


class Field:
    """A flow with a given velocity on a manifold."""

    def __init__(self, manifold, velocity):
        self.path, self.velocity = fm.path.Geodesic(manifold), lambda x, t: velocity(x)


def pole(x):
    """Moves along the meridians of a sphere: dz/dt = A (1 - z^2)."""
    return A * (torch.eye(x.shape[-1]).to(x)[-1] - x[..., -1:] * x)


def pole_law(x):
    """Density of x_0 if x_1 is uniform: atanh(z_1) = atanh(z_0) + A, and the area of each zone counts."""
    n, z = x.shape[-1] - 1, x[..., -1]
    end = torch.tanh(torch.atanh(z) + A)
    return Sphere(n).log_prior(x) + n / 2 * (torch.log1p(-(end**2)) - torch.log1p(-(z**2)))


def angle_law(x):
    """Density of x_0 for dx/dt = A sin x, tan(x_1/2) = e^A tan(x_0/2), if x_1 is uniform."""
    end = 2 * torch.atan(math.exp(A) * torch.tan(x / 2))
    return (torch.log(torch.sin(end) / torch.sin(x)) - math.log(2 * math.pi)).sum(-1)


def spread(x):
    """Moves away from the origin of hyperbolic space: log_o(x) grows by e^(A t)."""
    rho = x[..., 1:].square().sum(-1, keepdim=True)
    rate = A * torch.asinh(rho.sqrt()) / rho.sqrt()
    return rate * torch.cat([rho, x[..., :1] * x[..., 1:]], -1)


def spread_law(x):
    """Density of exp_o(e^-A w) with w normal."""
    n, sinh = x.shape[-1] - 1, x[..., 1:].norm(dim=-1)
    r = torch.asinh(sinh)
    normal = -((math.exp(A) * r) ** 2) / 2 - n / 2 * math.log(2 * math.pi) + n * A
    return normal + (n - 1) * torch.log(r / sinh)


def along_pole(x, t):
    z = torch.tanh(torch.atanh(x[..., -1:]) + A * t)
    return torch.cat([x[..., :-1] * ((1 - z**2) / (1 - x[..., -1:] ** 2)).sqrt(), z], -1)


def along_angles(x, t):
    return 2 * torch.atan(torch.exp(A * t) * torch.tan(x / 2))


def along_spread(x, t):
    sinh = x[..., 1:].norm(dim=-1, keepdim=True)
    r = torch.exp(A * t) * torch.asinh(sinh)
    return torch.cat([torch.cosh(r), torch.sinh(r) / sinh * x[..., 1:]], -1)


def along_both(x, t):
    return torch.cat([along_pole(x[..., :3], t), along_spread(x[..., 3:], t)], -1)


MAPS = {"globe": along_pole, "sphere": along_pole, "angles": along_angles, "hyperbolic5": along_spread,
        "product": along_both}  # fmt: skip
"""Exact flow maps of some of the fields, x after the time t."""

LAWS = {
    "circle": (Sphere(1), pole, pole_law),
    "globe": (Sphere(2), pole, pole_law),
    "sphere": (Sphere(4), pole, pole_law),
    "angles": (Torus(2), lambda x: A * torch.sin(x), angle_law),
    "hyperbolic": (Hyperbolic(2), spread, spread_law),
    "hyperbolic5": (Hyperbolic(5), spread, spread_law),
    "product": (
        Product(Sphere(2), Hyperbolic(2)),
        lambda x: torch.cat([pole(x[..., :3]), spread(x[..., 3:])], -1),
        lambda x: pole_law(x[..., :3]) + spread_law(x[..., 3:]),
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_laws_in_closed_form(name):
    space, velocity, law = LAWS[name]
    flow, x = Field(space, velocity), space.noise(0.5 * numbers(0, 16, space.size))
    found = log_prob(flow, x, by=ode(steps=20))
    assert (found.value - law(x)).abs().max() < 5e-5  # of the steps
    assert space.off(found.noise).max() < 1e-12
    by_differences = log_prob(flow, x, by=ode(differences(64, h=1e-3), steps=1))
    some = log_prob(flow, x, by=ode(hutchinson(64), steps=1))
    for estimate in (by_differences, some):
        assert (estimate.value - law(x)).abs().max() < 5 * estimate.standard_error.max() + 1e-2


def test_the_trace_without_the_projection_is_wrong():
    """The field is continued off the sphere in some way, and its ambient trace counts that; negative control."""
    x = points(Sphere(2), 8)
    path = fm.path.Geodesic(Sphere(2))
    _, ambient = exact()(pole, x, exact().draw(x))
    _, right = exact()(lambda y: path.tangent(x, pole(path.point(y))), x, exact().draw(x))
    assert torch.allclose(right[:, 0], -2 * A * x[:, 2])  # div (A grad z) = -2 A z
    assert (ambient[:, 0] + 2 * A * x[:, 2]).abs().max() > 0.5


def test_rotations_keep_the_uniform_density():
    def turn(q):
        w, x, y, z = q.unbind(-1)
        return torch.stack([-z, y, -x, w], -1)  # the product with k

    x = points(SO3(), 8)
    found = log_prob(Field(SO3(), turn), x, by=ode(steps=4))
    assert torch.allclose(found.value, torch.full_like(found.value, -2 * math.log(math.pi)))


def test_adaptive_and_fixed_steps_agree_and_stay_on_the_manifold():
    space, velocity, law = LAWS["product"]
    x = space.noise(0.5 * numbers(0, 8, space.size))
    for solver in (adaptive(rtol=1e-8, atol=1e-8), grid(30, likelihood.heun)):
        found = log_prob(Field(space, velocity), x, by=ode(solver=solver))
        assert (found.value - law(x)).abs().max() < 3e-3 and space.off(found.noise).max() < 1e-12


class Smooth(torch.nn.Module):
    """A small network that is smooth in the state and in time."""

    def __init__(self):
        super().__init__()
        self.first, self.last = (numbers(seed, 3, 3, dtype=torch.float32) for seed in (1, 2))

    def forward(self, x, s, t):
        return torch.tanh(x @ self.first + torch.sin(s)[:, None]) @ self.last / 2


def test_the_density_of_a_network_has_the_integral_one():
    """Gauss-Legendre quadrature in z, equal angles around."""
    flow = fm.FlowMap(Smooth(), path=fm.path.Geodesic(Sphere(2)))
    z, weights = fm.exact.curved.gauss_legendre(16)
    around = torch.arange(32) * math.pi / 16
    rho = (1 - z**2).sqrt()[:, None]
    x = torch.stack([rho * around.cos(), rho * around.sin(), z[:, None].expand(16, 32)], -1).flatten(0, 1)
    for by in (ode(steps=6), likelihood.jumps(2)):
        density = log_prob(flow, x.float(), by=by).value.exp().double().reshape(16, 32)
        assert density.std() > 0.02
        assert abs(float((weights[:, None] * density).sum()) * math.pi / 16 - 1) < 1e-3


def test_exact_laws_on_the_circle():
    law = fm.exact.Circle([0.6, 0.4], [-0.5, 1.5], [0.4, 0.7])
    x = law.sample(8, torch.Generator().manual_seed(0))
    assert (log_prob(law, x, by=ode(steps=10)).value - law.log_prob(x)).abs().max() < 1e-3


@pytest.mark.slow
def test_exact_laws_on_the_globe():
    law = fm.exact.Zonal([0.6, 0.4], [1, -1], 20.0)
    x = law.sample(6, torch.Generator().manual_seed(0))
    assert (log_prob(law, x, by=ode(steps=20)).value - law.log_prob(x)).abs().max() < 1e-3


def test_euclidean_space_has_the_numbers_of_the_linear_path():
    torch.manual_seed(0)
    network = fm.networks.MLP(2, width=16, depth=1)
    torch.nn.init.normal_(network.output.weight, std=0.1)
    x = numbers(0, 8, 2, dtype=torch.float32)
    flat, geodesic = fm.FlowMap(network), fm.FlowMap(network, path=fm.path.Geodesic(Euclidean(2)))
    for by in (ode(steps=4), likelihood.jumps(2)):
        assert torch.equal(log_prob(flat, x, by=by).value, log_prob(geodesic, x, by=by).value)


class Jumping(Field):
    """A flow with a given flow map."""

    def __init__(self, manifold, along):
        super().__init__(manifold, torch.zeros_like)
        self.along = along

    def __call__(self, x, s, t):
        return self.along(x, torch.full_like(x[:, :1], t - s))


@pytest.mark.parametrize("name", MAPS)
def test_exact_jumps_have_the_law_in_closed_form(name):
    space, _, law = LAWS[name]
    flow, x = Jumping(space, MAPS[name]), points(space, 16)
    for n in (1, 3):
        assert torch.allclose(log_prob(flow, x, by=likelihood.jumps(n)).value, law(x))
    found, value = likelihood.sample(flow, points(space, 16, seed=2), 2)
    assert torch.allclose(value, law(found)) and space.off(found).max() < 1e-9
    seen = likelihood.invertibility(flow, points(space, 16, seed=2), 2)
    assert seen.folded == 0 and seen.smallest_determinant > 0 and seen.cycle_error < 1e-9


def test_a_reflection_folds_the_sphere_and_a_half_turn_does_not():
    x = points(Sphere(2), 4)
    flip, turn = torch.tensor([1.0, 1, -1]).double(), torch.tensor([-1.0, -1, 1]).double()
    with pytest.warns(UserWarning, match="fold space"):
        assert log_prob(Jumping(Sphere(2), lambda x, t: flip * x), x, by=likelihood.jumps(1)).folded.eq(1).all()
    found = log_prob(Jumping(Sphere(2), lambda x, t: turn * x), x, by=likelihood.jumps(1))
    assert torch.allclose(found.value, Sphere(2).log_prior(x))
    q = points(SO3(), 4)
    other = torch.diag(torch.tensor([-1.0, -1, 1, 1])).double()
    found = log_prob(Jumping(SO3(), lambda x, t: x @ other), q, by=likelihood.jumps(1))
    assert torch.allclose(found.value, SO3().log_prior(q))


def test_rows_near_the_manifold_are_projected_and_others_refused():
    flow, x = Field(Sphere(2), pole), points(Sphere(2), 4)
    assert torch.allclose(log_prob(flow, x * 1.0005, by=FEW).value, log_prob(flow, x, by=FEW).value, atol=1e-12)
    far = torch.cat([x, 1.1 * x[:1], torch.full_like(x[:1], 2.0)])
    with pytest.raises(ValueError, match=r"2 of 6 rows of x0 are no points on Sphere\(n=2\), the first row 4, by 0.1:"):
        log_prob(flow, far)
    with pytest.raises(ValueError, match=r"have 3 coordinates, and x0 has the shape \(4, 2\)"):
        log_prob(flow, x[:, :2])
    flow, angles = Field(Torus(2), torch.sin), points(Torus(2), 4)
    turned = angles - 2 * math.pi * angles.sign()
    assert torch.allclose(log_prob(flow, turned, by=FEW).value, log_prob(flow, angles, by=FEW).value)
    with pytest.raises(ValueError, match="angles are radians"):
        log_prob(flow, angles * 180 / math.pi)


def test_formulas_of_flat_space_refuse():
    flow = fm.FlowMap(fm.networks.MLP(3, width=8, depth=1), path=fm.path.Geodesic(Sphere(2)))
    x = points(Sphere(2), 4, dtype=torch.float32)
    message = r"formulas of flat space, and this flow has the path .*Sphere\(n=2\)\): take the estimators ode or jumps"
    for by in (likelihood.joint(2), likelihood.bound(2)):
        with pytest.raises(ValueError, match=message):
            log_prob(flow, x, by=by)
    for call in (
        lambda: likelihood.sample(flow, x, by=likelihood.head),
        lambda: likelihood.joint_map(flow, x),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_metric_that_is_not_the_one_of_the_coordinates_is_refused():
    import geoopt

    ball = fm.manifolds.from_geoopt(geoopt.PoincareBall(), 2)
    with pytest.raises(ValueError, match="the divergence is no trace: take fm.manifolds.Hyperbolic"):
        log_prob(Field(ball, lambda x: x), points(ball, 4))
    plane = fm.manifolds.from_geoopt(geoopt.Euclidean(ndim=1), 2)
    x = points(plane, 4)
    assert torch.allclose(log_prob(Field(plane, lambda x: A * x), x).value, plane.log_prior(math.exp(A) * x) + 2 * A)
