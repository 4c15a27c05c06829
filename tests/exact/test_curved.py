"""Laws on manifolds against quadrature over their data, their own ODE, and the continuity equation."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.exact.curved import gauss_legendre

ZONAL = fm.exact.Zonal([0.6, 0.4], [1, -1], 20)
CIRCLE = fm.exact.Circle([0.3, 0.4, 0.3], [-1.0, 0.0, 1.0], [0.3, 0.2, 0.3])
TWISTED = fm.exact.Circle([0.7, 0.3], [-2.0, 0.5], [0.3, 0.1])
ATOMS = fm.exact.Atoms(torch.nn.functional.normalize(torch.tensor([[1.0, 2, 3], [-1, 0, 1], [0, -1, 0.2]]), dim=1))
SPHERE = fm.manifolds.Sphere(2)


def parallel(z):
    """Points of the sphere at heights z."""
    z = torch.as_tensor(z, dtype=torch.float64)
    return torch.stack([(1 - z**2).sqrt() * 0.6, (1 - z**2).sqrt() * 0.8, z], 1)


def points(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return SPHERE.noise(torch.randn(n, 3, generator=generator, dtype=torch.float64))


def angles(n, seed=0):
    return 2 * math.pi * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - math.pi


def times(n, seed=1):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LAWS = [(ZONAL, points), (CIRCLE, angles), (TWISTED, angles)]
IDS = ["zonal", "circle", "twisted"]


def test_zonal_has_the_published_entropy_and_flow_map():
    assert ZONAL.entropy == pytest.approx(0.515156, abs=1e-6)
    x = parallel([-0.9, -0.3, 0.0, 0.3, 0.9])
    for t, z in (
        (0.5, [-0.931891, -0.289778, 0.352725, 0.621280, 0.955134]),
        (0.0, [-0.993323, -0.896028, 0.910412, 0.956227, 0.995649]),
    ):
        found = ZONAL.flow_map(x, 1.0, t)
        torch.testing.assert_close(found, parallel(z), atol=1e-5, rtol=0)


def grid_of_zonal():
    """Points of the sphere with the weights of p_0, by quadrature over heights and azimuths."""
    (z, weights), azimuths = gauss_legendre(120), torch.arange(160, dtype=torch.float64) * 2 * math.pi / 160
    rho = (1 - z**2).sqrt()[:, None]
    rows = torch.stack([rho * azimuths.cos(), rho * azimuths.sin(), z[:, None].expand(120, 160)], -1).reshape(-1, 3)
    mass = 20 / (1 - math.exp(-40)) * (0.6 * (20 * (z - 1)).exp() + 0.4 * (-20 * (z + 1)).exp()) * weights
    return fm.exact.Atoms(rows, (mass[:, None] / 160).expand(120, 160).reshape(-1))


def test_zonal_is_the_posterior_mean_over_its_data():
    """Against a sum over a grid of x_0 on the sphere with the kernel p(x_t | x_0), at t where the grid resolves it."""
    x, t = points(6), torch.tensor([0.4, 0.5, 0.6, 0.7, 0.8, 0.9], dtype=torch.float64)
    grid = grid_of_zonal()
    torch.testing.assert_close(ZONAL.velocity(x, t), grid.velocity(x, t), atol=1e-4, rtol=0)
    torch.testing.assert_close(ZONAL.log_prob(x, t), grid.log_prob(x, t), atol=1e-4, rtol=0)
    other = fm.exact.Zonal([0.5, 0.5], [1, -1], 20)
    assert float((other.velocity(x, t) - grid.velocity(x, t)).abs().max()) > 0.05


@pytest.mark.parametrize(("law", "draw"), LAWS[:2], ids=IDS[:2])
def test_flow_maps_solve_the_ode_of_the_velocity(law, draw):
    x, s, t = draw(6), times(6), times(6, 2)
    found, solved = law.flow_map(x, s, t), law.by_ode(x, s, t, tolerance=1e-5)
    assert float(law.manifold.distance(found, solved).max()) < 1e-5
    torch.testing.assert_close(law.manifold.log(law.flow_map(found, t, s), x), torch.zeros_like(x), atol=1e-6, rtol=0)
    V = law.average_velocity(x, s, t)
    end = law.manifold.exp(x, (t - s)[:, None] * V)
    torch.testing.assert_close(law.manifold.log(end, found), torch.zeros_like(x), atol=1e-9, rtol=0)
    assert float((found - x).abs().max()) > 0.1
    torch.testing.assert_close(law.average_velocity(x, s, s), law.velocity(x, s))


@pytest.mark.parametrize(("law", "draw"), LAWS, ids=IDS)
def test_continuity_equation(law, draw):
    """d/dt log p along the flow is minus the divergence, by differences; a wrong velocity breaks it."""
    x, t, h = draw(16), 0.1 + 0.8 * times(16), 1e-4
    rate = (law.log_prob(x, t + h) - law.log_prob(x, t - h)) / (2 * h)

    def residual(velocity):
        total = rate + (law.score(x, t) * velocity(x)).sum(1)
        for basis in torch.eye(x.shape[1], dtype=torch.float64):
            u = law.manifold.tangent(x, basis.expand_as(x))
            ahead, behind = (velocity(law.manifold.exp(x, sign * h * u)) for sign in (1, -1))
            total = total + ((ahead - behind) * u).sum(1) / (2 * h)
        return float(total.abs().max())

    assert residual(lambda y: law.velocity(y, t)) < 1e-4
    assert residual(lambda y: 1.05 * law.velocity(y, t)) > 1e-2


@pytest.mark.parametrize("t", [0.0, 0.02, 0.5, 1.0])
def test_densities_have_mass_one(t):
    z, weights = gauss_legendre(400)
    zonal = weights @ ZONAL.log_prob(parallel(z), t).exp() * 2 * math.pi
    circle = math.pi * weights @ TWISTED.log_prob(math.pi * z[:, None], t).exp()
    torch.testing.assert_close(torch.stack([zonal, circle]), torch.ones(2, dtype=torch.float64), atol=1e-9, rtol=0)
    if t == 1:
        x = points(5)
        torch.testing.assert_close(ZONAL.log_prob(x, t), SPHERE.log_prior(x))


@pytest.mark.parametrize(("law", "draw"), [*LAWS, (ATOMS, points)], ids=[*IDS, "atoms"])
def test_velocities_have_the_right_derivatives_in_forward_mode(law, draw):
    x, t, h = draw(8), 0.3 + 0.6 * times(8), 1e-5
    u, t = law.manifold.tangent(x, draw(8, 3)), t[:, None]
    _, found = fm.derivative.jvp(law.velocity, (x, t), (u, 1.0))
    ends = [law.velocity(x + sign * h * u, t + sign * h) for sign in (1, -1)]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2 * h), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("law", "draw"), LAWS[:2], ids=IDS[:2])
def test_flow_maps_have_the_right_first_derivatives(law, draw):
    """In forward mode and in reverse mode, in the state and in both times."""
    x, s, t, h = draw(8), 0.3 + 0.6 * times(8)[:, None], 0.5 * times(8, 2)[:, None], 1e-5
    u = law.manifold.tangent(x, draw(8, 3))
    _, found = fm.derivative.jvp(law.flow_map, (x, s, t), (u, 1.0, 0.5))
    ends = [law.flow_map(x + sign * h * u, s + sign * h, t + sign * h / 2) for sign in (1, -1)]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2 * h), atol=1e-5, rtol=1e-5)
    y = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(law.flow_map(y, s, t).sum(), y)
    _, along = fm.derivative.jvp(law.flow_map, (x, s, t), (u, 0, 0))
    torch.testing.assert_close((slope * u).sum(), along.sum())


def test_atoms_kernel_is_the_density_of_the_geodesic_path():
    """Shares of draws of x_t in caps around x_0 against the integral of the kernel, within 4 standard errors."""
    atom = fm.exact.Atoms(torch.tensor([[0.0, 0.0, 1.0]]))
    n, t = 200_000, 0.6
    x0 = atom.sample(n, torch.Generator().manual_seed(0))
    x = atom.path.interpolate(x0, torch.randn(n, 3, generator=torch.Generator().manual_seed(1)).double(), t)
    nodes, weights = gauss_legendre(200)
    for angle in (0.5, 1.0, 1.5):
        phi = angle / 2 * (1 + nodes)
        density = atom.log_prob(parallel(phi.cos()), t).exp()
        mass = float((angle / 2 * weights * 2 * math.pi * phi.sin() * density).sum())
        share = float((x[:, 2] > math.cos(angle)).double().mean())
        assert abs(share - mass) < 4 * (mass * (1 - mass) / n) ** 0.5, angle
        assert mass == pytest.approx((1 - math.cos(angle / t)) / 2, abs=1e-9)


def test_atoms_posterior_and_density_by_draws():
    """The mean of the kernel over the points, its mass over the sphere, and velocities of pairs near a state."""
    x = points(20_000)
    p = ATOMS.log_prob(x, 0.7).exp() * 4 * math.pi
    assert abs(float(p.mean()) - 1) < 4 * float(p.std()) / len(x) ** 0.5
    n, t, centre = 150_000, 0.7, points(1, 5)
    generator = torch.Generator().manual_seed(2)
    x0, eps = ATOMS.sample(n, generator), torch.randn(n, 3, generator=generator, dtype=torch.float64)
    near = SPHERE.distance(ATOMS.path.interpolate(x0, eps, t), centre) < 0.1
    u = ATOMS.path.velocity(x0, eps, t)[near]
    stderr = u.std(0) / len(u) ** 0.5
    assert len(u) > 200
    assert bool(((u.mean(0) - ATOMS.velocity(centre, t)[0]).abs() < 4 * stderr + 0.02).all())  # the cap's size
    shares = (x0[near][:, None] == ATOMS.points).all(2).double().mean(0)
    assert bool(((shares - ATOMS.posterior(centre, t)[0]).abs() < 4 * 0.5 / len(u) ** 0.5 + 0.02).all())


def test_atoms_end_at_their_points():
    x = points(64)
    found = ATOMS.flow_map(x, 1.0, 0.0, tolerance=1e-2)
    gaps = SPHERE.distance(found[:, None], ATOMS.points[None])
    assert float(gaps.min(1).values.max()) < 1e-6
    shares = torch.nn.functional.one_hot(gaps.argmin(1), 3).double().mean(0)
    assert bool(((shares - 1 / 3).abs() < 4 * (2 / 9 / 64) ** 0.5).all())
    far = torch.nn.functional.normalize(torch.tensor([[1.0, -1.0, -3.0]]).double(), dim=1)
    assert ATOMS.log_prob(far, 0.1).item() == -math.inf and bool(ATOMS.velocity(far, 0.1).isfinite().all())
    with pytest.raises(ValueError, match="at t = 0 the law of finitely many points has no density"):
        ATOMS.log_prob(x, 0.0)


def test_rare_places_follow_the_ode():
    """Between two narrow modes distribution functions have no digits left; the map still composes there."""
    law = fm.exact.Zonal([0.5, 0.5], [1, -1], 60.0)
    x = parallel([0.05, -0.02])
    assert float(law.log_prob(x, 0.1).max()) < math.log(1e-9)
    early = law.flow_map(x, 0.1, 0.05)
    torch.testing.assert_close(early, law.by_ode(x, 0.1, 0.05), atol=1e-7, rtol=0)
    torch.testing.assert_close(law.flow_map(early, 0.05, 0.1), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("law", "draw"), [*LAWS, (ATOMS, points)], ids=[*IDS, "atoms"])
def test_fields_keep_the_dtype_and_are_finite_at_the_ends_and_poles(law, draw):
    special = torch.tensor([[0.0, 0, 1], [0, 0, -1]]) if law.manifold.size == 3 else torch.tensor([[0.0], [math.pi]])
    x = torch.cat([special, draw(4).float()])
    for t in (0.0, 1e-7, 0.5, 1.0):
        assert law.velocity(x, t).dtype == torch.float32 and bool(law.velocity(x, t).isfinite().all())
    if law in (ZONAL, CIRCLE):
        assert bool(law(x, 1.0, 0.0).isfinite().all()) and law(x, 1.0, 0.0).dtype == torch.float32
    assert bool(law.score(x.double(), 0.5).isfinite().all())
    gap = (law.velocity(x, 0.5).double() - law.velocity(x.double(), 0.5)).abs().max()
    assert float(gap) < 1e-4


class Answer(torch.nn.Module):
    """The exact average velocity as a network, with an error along the circles of latitude or along the angle."""

    def __init__(self, law, error):
        super().__init__()
        self.law, self.error = law, torch.nn.Parameter(torch.tensor(error))

    def forward(self, x, s, t):
        east = torch.stack([-x[:, 1], x[:, 0], 0 * x[:, 0]], 1) if x.shape[1] == 3 else torch.ones_like(x)
        return self.law.average_velocity(x, s, t) + self.error * east


@pytest.mark.parametrize("law", [ZONAL, CIRCLE], ids=["zonal", "circle"])
def test_laws_are_data_and_truth(law):
    """A map by the exact average velocity has no error; angles near pi do not add turns to the error of another."""
    data = fm.data.as_data(law)
    assert data.manifold == law.manifold and data.exact is law and data.kind == "vectors"
    assert float(law.manifold.off(data.draw(8).x0.double()).max()) < 1e-6
    for error, least, most in ((0.0, 0.0, 1e-3), (0.3, 0.02, 0.31)):
        found = fm.evaluate.map_error(fm.FlowMap(Answer(law, error), path=law.path), law, n=128)
        assert all(least <= value < most for value in found.values()), found


def test_draws_have_the_moments_of_the_law():
    n = 5_000
    x = ZONAL.sample(n, torch.Generator().manual_seed(0))
    assert float(ZONAL.manifold.off(x).max()) < 1e-12
    spread = float(ZONAL.log_prob(x).std()) / n**0.5
    assert abs(float(-ZONAL.log_prob(x).mean()) - ZONAL.entropy) < 4 * spread
    assert abs(float(x[:, 2].mean()) - 0.2 * (1 / math.tanh(20) - 1 / 20)) < 4 / n**0.5
    a = TWISTED.sample(n, torch.Generator().manual_seed(0))
    wanted = 0.7 * math.cos(-2.0) * math.exp(-0.045) + 0.3 * math.cos(0.5) * math.exp(-0.005)
    assert abs(float(a.cos().mean()) - wanted) < 4 * float(a.cos().std()) / n**0.5
    assert ZONAL.sample(0).shape == (0, 3) and CIRCLE.sample(0).shape == (0, 1) and ATOMS.sample(0).shape == (0, 3)


def test_wrong_laws_and_calls_are_refused():
    for make, message in (
        (lambda: fm.exact.Zonal([0.6, 0.4], [1, 0.5], 20), r"poles are \+1 or -1"),
        (lambda: fm.exact.Zonal([0.6, 0.6], [1, -1], 20), "2 positive weights with sum 1"),
        (lambda: fm.exact.Zonal([0.6, 0.4], [1, -1], [20, 2000]), r"concentrations lie in \(0, 1000\]"),
        (lambda: fm.exact.Circle([1.0], [0.0], 0.001), "stds must be 0.01 or more"),
        (lambda: fm.exact.Circle([0.5, 0.5], [0.0], 0.1), "1 components need 1 positive weights"),
        (lambda: fm.exact.Atoms([[1.0, 0.0]]), r"are \(N, 3\)"),
        (lambda: fm.exact.Atoms([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), "1 of 2 are more than 0.001 off"),
        (lambda: TWISTED.flow_map(angles(2), 1.0, 0.0), "symmetric about 0, whose flow keeps 0 fixed"),
        (lambda: ZONAL.denoise(points(2), 0.5), "Zonal has no denoiser"),
        (lambda: ZONAL.velocity(points(2)[:, :2], 0.5), r"takes floating-point x of shape \(B, 3\)"),
        (lambda: setattr(ZONAL, "path", fm.path.linear), "exact on the path"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
