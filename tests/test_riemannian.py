"""The rules on manifolds against the exact map of a smooth field, with the published slips as controls."""

from functools import partial

import pytest
import torch

import flowmaps as fm
from flowmaps import riemannian
from flowmaps.consistency import compositional, diffusion, eulerian, lagrangian
from flowmaps.manifolds import Euclidean, Sphere, Torus

SPHERE = Sphere(2)


RULES = {
    "lagrangian": riemannian.lagrangian,
    "eulerian": riemannian.eulerian,
    "compositional": riemannian.compositional,
    "mean_flow": riemannian.mean_flow,
    "same_endpoint": partial(riemannian.same_endpoint, to=lambda s, t: (s + t) / 2, solver=fm.steps.jump),
}


class Exact:
    """The flow of a smooth tangent field, solved by Runge and Kutta's method of fourth order."""

    def __init__(self, manifold, steps=120):
        self.path, self.steps = fm.path.Geodesic(manifold), steps
        self.matrix = torch.randn(3, manifold.size, manifold.size, generator=torch.Generator().manual_seed(0)).double()
        if isinstance(manifold, Torus):
            self.matrix = self.matrix.sign()  # whole numbers, so that the field is periodic

    def velocity(self, x, t):
        """A field that depends on the point and on the time."""
        a, b, c = (torch.sin(x @ matrix) for matrix in self.matrix)
        return self.path.tangent(x, 1.5 * (a + t * b + t**2 * c))

    def __call__(self, x, s, t):
        h = (t - s) / self.steps
        for k in range(self.steps):
            u, point = s + k * h, self.path.point
            k1 = self.velocity(x, u)
            k2 = self.velocity(point(x + h / 2 * k1), u + h / 2)
            k3 = self.velocity(point(x + h / 2 * k2), u + h / 2)
            k4 = self.velocity(point(x + h * k3), u + h)
            x = point(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        return x

    def average_velocity(self, x, s, t):
        return self.path.between(x, self(x, s, t)) / (t - s)


def states(manifold, n=16):
    torch.manual_seed(0)
    x = manifold.noise(torch.randn(n, manifold.size, dtype=torch.float64))
    return x, torch.full((n, 1), 0.9, dtype=torch.float64), torch.full((n, 1), 0.2, dtype=torch.float64)


@pytest.mark.parametrize("manifold", [SPHERE, Torus(2)], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_rules_are_zero_at_the_exact_map(name, manifold):
    rule = RULES[name]
    flow, (x, s, t) = Exact(manifold), states(manifold)
    assert rule(flow, flow, x, s, t).abs().max() < 1e-6
    wrong = Exact(manifold)
    wrong.matrix = -wrong.matrix  # another field: no rule is zero between its velocity and the first map
    if name != "same_endpoint":
        assert rule(flow, wrong, x, s, t).norm(dim=-1).mean() > 0.1


@pytest.mark.parametrize("name", RULES)
def test_rules_are_zero_at_the_map_of_a_zonal_law(name):
    """Its velocity is a posterior mean, and its map comes from distribution functions: neither is made of the other."""
    law, other = (fm.exact.Zonal([0.6, 0.4], [1, -1], concentration) for concentration in (20.0, 2.0))
    z, azimuth = torch.tensor([-0.9, -0.5, -0.1, 0.2, 0.5, 0.9], dtype=torch.float64), torch.arange(6.0).double()
    rho = (1 - z**2).sqrt()
    x = torch.stack([rho * azimuth.cos(), rho * azimuth.sin(), z], 1)
    s, t = (torch.full((6, 1), time, dtype=torch.float64) for time in (0.9, 0.5))
    assert RULES[name](law, law, x, s, t).abs().max() < 1e-10
    if name != "same_endpoint":  # its solver is a jump of the law on both sides
        assert RULES[name](law, other, x, s, t).norm(dim=-1).mean() > 0.1


def test_published_slips_are_wrong():
    """A velocity at x is projected at F instead of pushed forward; the rule of flat space on the sphere."""
    flow, (x, s, t) = Exact(SPHERE), states(SPHERE)
    v, y = flow.velocity(x, s), flow(x, s, t)
    _, along_s = fm.derivative.jvp(flow, (x, s, t), (0, 1, 0))
    assert (along_s + SPHERE.tangent(y, v)).norm(dim=-1).mean() > 0.1
    V, dV = fm.derivative.jvp(flow.average_velocity, (x, s, t), (v, 1, 0))
    assert SPHERE.tangent(x, V - v - (t - s) * dV).norm(dim=-1).mean() > 0.1


def test_mean_flow_leaves_rows_near_the_cut_locus_out():
    flow, (x, s, t) = Exact(SPHERE), states(SPHERE)
    far = riemannian.mean_flow(flow, flow, x, s, t, share=0.01)
    assert (far == 0).all() and riemannian.mean_flow(flow, Exact(Torus(3)), x, s, t).abs().max() > 0


def test_rules_in_euclidean_space_are_the_flat_ones():
    """The Lagrangian and the diffusion rule bit for bit; the others add in another order, so to the last digits."""
    torch.manual_seed(0)
    network = fm.networks.MLP(shape=(3,)).double()
    flat, flow = fm.FlowMap(network), fm.FlowMap(network, path=fm.path.Geodesic(Euclidean(3)))
    x, s, t = states(Euclidean(3))
    pairs = [
        (riemannian.diffusion, diffusion, 0),
        (riemannian.lagrangian, lagrangian, 0),
        (riemannian.eulerian, partial(eulerian, derivative=fm.derivative.jvp), 1e-14),
        (riemannian.mean_flow, eulerian, 1e-14),
        (riemannian.compositional, compositional, 1e-14),
    ]
    for rule, known, tolerance in pairs:
        assert (rule(flow, flow, x, s, t) - known(flat, flat, x, s, t)).abs().max() <= tolerance
    noise = torch.randn_like(x)
    for step in ("jump", "euler", "heun", "restart", "ancestral"):
        both = [fm.sample(one, noise, 3, step=step, seed=0) for one in (flat, flow)]
        assert torch.equal(*both)
    batch = [fm.methods.lsd().loss(one, x, noise=noise, times=(s[:, 0], t[:, 0])).value for one in (flat, flow)]
    assert torch.equal(*batch)


def test_flat_rules_and_what_needs_sums_refuse():
    flow = fm.FlowMap(fm.networks.MLP(shape=(3,)), path=fm.path.Geodesic(SPHERE))
    x = SPHERE.noise(torch.randn(8, 3))
    for method in (fm.methods.flow_matching(), fm.methods.imf(), fm.methods.lsd(), fm.methods.ct()):
        with pytest.raises(ValueError, match="formula of flat space"):
            method.loss(flow, x)
    with pytest.raises(ValueError, match="no mean"):
        flow.denoise(x, 0.5)
    for step in ("ancestral", "sde"):
        with pytest.raises(ValueError, match="no mean"):
            fm.sample(flow, x, 2, step=step)
    with pytest.raises(ValueError, match="formula of flat space"):
        fm.FlowMap(fm.networks.MLP(shape=(3,)), fm.Endpoint(), path=fm.path.Geodesic(SPHERE))
    with pytest.raises(ValueError, match="conditional"):
        fm.Term(riemannian.lagrangian)


@pytest.mark.parametrize("step", ["jump", "euler", "heun", "restart", "ode"])
def test_samplers_stay_on_the_manifold(step):
    flow = fm.FlowMap(fm.networks.MLP(shape=(3,)), path=fm.path.Geodesic(SPHERE))
    x = fm.sample(flow, fm.noise(flow, 8, seed=0), 3, step=step, seed=0)
    assert x.shape == (8, 3) and SPHERE.off(x).max() < 1e-6


@pytest.mark.parametrize("manifold", [SPHERE, Torus(2)], ids=str)
def test_steps_of_solvers_have_their_order(manifold):
    flow, (x, s, t) = Exact(manifold, 100), states(manifold)
    true = flow(x, s, t)
    for step, order in ((fm.steps.euler, 1), (fm.steps.heun, 2)):
        found = [fm.sample(flow, x, times=torch.linspace(0.9, 0.2, n + 1).tolist(), step=step) for n in (16, 32)]
        coarse, fine = (manifold.distance(one, true).mean() for one in found)
        assert coarse / fine == pytest.approx(2**order, rel=0.2)
    assert manifold.distance(fm.sample(flow, x, times=[0.9, 0.2], step=fm.steps.ode(1e-8, 1e-8)), true).max() < 1e-6


def test_interpolation_follows_geodesics_of_noise_space():
    flow, (x, s, _) = Exact(SPHERE), states(SPHERE)
    a, b = x[:4], x[4:8]
    ends = [flow(one, torch.zeros_like(s[:4]), torch.ones_like(s[:4])) for one in (a, b)]
    found = fm.interpolate(flow, a, b, 3)
    assert SPHERE.distance(found[0], a).max() < 1e-6 and SPHERE.distance(found[2], b).max() < 1e-6
    middle = SPHERE.point(ends[0] + ends[1])
    assert SPHERE.distance(fm.invert(flow, found[1]), middle).max() < 1e-6
    torch.manual_seed(0)
    still = fm.FlowMap(lambda x, s, t: torch.zeros_like(x), path=fm.path.Geodesic(SPHERE))
    with pytest.raises(ValueError, match="cut locus"):
        fm.interpolate(still, a, -a)


def test_long_jumps_on_a_torus_count():
    """The cut locus is one of each angle, and the derivative of log is constant, so no jump is too long there."""
    torus = Torus(7)
    x, s, t = states(torus)
    flow = fm.FlowMap(lambda x, s, t: 4 + 0 * x, path=fm.path.Geodesic(torus))  # jumps of 2.8 for each angle
    teacher = Exact(torus)
    found = riemannian.mean_flow(flow, teacher, x, s, t)
    assert torch.allclose(found, 4 - teacher.velocity(x, s))
    still = fm.FlowMap(lambda x, s, t: 0 * x, path=fm.path.Geodesic(torus))
    middle = fm.interpolate(still, x[:8], x[8:], 3)[1]
    assert torch.allclose(torus.distance(middle, x[:8]), torus.distance(x[:8], x[8:]) / 2)
    assert torus.distance(x[:8], x[8:]).min() > torus.reach


def test_guided_velocities_are_mixed_in_the_tangent_space():
    class ByLabel(torch.nn.Module):
        def forward(self, x, s, t, label):
            return torch.sin(3 * x) + label[:, None].to(x.dtype)

    flow, (x, s, _) = fm.FlowMap(ByLabel(), path=fm.path.Geodesic(SPHERE)), states(SPHERE)
    guided = fm.guidance.classifier_free(flow, 2.0, null={"label": 0}).given(label=torch.ones(16))
    v = guided.velocity(x, s)
    one, none = (flow.given(label=torch.full((16,), y)).velocity(x, s) for y in (1, 0))
    assert torch.allclose(v, none + 2 * (one - none)) and (x * v).sum(-1).abs().max() < 1e-12
    assert SPHERE.off(fm.sample(guided, x, 4, step="euler")).max() < 1e-12


def test_rows_off_the_manifold_are_refused():
    flow = fm.FlowMap(fm.networks.MLP(shape=(3,)), path=fm.path.Geodesic(SPHERE))
    x = SPHERE.noise(torch.randn(8, 3))
    for wrong in (1.01 * x, x.where(torch.arange(8)[:, None] > 6, torch.nan), torch.randn(8, 3)):
        with pytest.raises(ValueError, match=r"rows of x0 are no points on Sphere\(n=2\), the first row 0"):
            fm.methods.gfm_lsd().loss(flow, wrong)
        for call in (fm.sample, fm.trajectory, fm.invert):
            with pytest.raises(ValueError, match="are no points on Sphere"):
                call(flow, wrong, 2)
    with pytest.raises(ValueError, match="have 3 coordinates"):
        fm.sample(flow, torch.randn(8, 4), 2)
    assert fm.sample(flow, x * (1 + 1e-5), 2).isfinite().all()
