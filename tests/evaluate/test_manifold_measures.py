"""Measures of points on manifolds: closed forms, unbiasedness, floors, and the evaluation of a map."""

import itertools
import math

import pytest
import torch

import flowmaps as fm
from flowmaps.evaluate import manifold_measures

GLOBE, TORUS = fm.manifolds.Sphere(2), fm.manifolds.Torus(3)


def uniform(n, seed, manifold=GLOBE):
    generator = torch.Generator().manual_seed(seed)
    return manifold.noise(torch.randn(n, manifold.size, generator=generator, dtype=torch.float64))


def cap(n, seed, width=0.4):
    """Points around the north pole."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64) * width + torch.tensor([0, 0, 1.0])
    return GLOBE.point(x)


@pytest.mark.parametrize("manifold", [GLOBE, TORUS], ids=str)
def test_discrepancies_are_means_over_pairs(manifold, monkeypatch):
    monkeypatch.setattr(manifold_measures, "PAIRS", 20)  # some rows at a time
    x, y = uniform(7, 0, manifold), uniform(5, 1, manifold)

    def angle(a, b):
        between = torch.acos((a * b).sum().clamp(-1, 1))
        return between if manifold is GLOBE else (torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi).norm()

    def k(a, b):
        return math.exp(-(float(angle(a, b)) ** 2))

    def unbiased(x, y):
        within = [sum(k(a, b) for a, b in itertools.permutations(z, 2)) / (len(z) * (len(z) - 1)) for z in (x, y)]
        return sum(within) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))

    def without(rows, i):
        return torch.cat([rows[:i], rows[i + 1 :]])

    found = fm.evaluate.geodesic_mmd(x, y, manifold)
    assert found.value == pytest.approx(unbiased(x, y), abs=1e-9)
    parts = [[unbiased(without(x, i), y) for i in range(7)], [unbiased(x, without(y, i)) for i in range(5)]]
    variance = sum((len(one) - 1) * torch.tensor(one).double().var(correction=0) for one in parts)
    assert found.stderr == pytest.approx(float(variance) ** 0.5, rel=1e-4)
    every = sum(sum(k(a, b) for a in z for b in z) / len(z) ** 2 for z in (x, y))
    biased = math.sqrt(every - 2 * sum(k(a, b) for a in x for b in y) / 35)
    assert fm.evaluate.biased_geodesic_mmd(x, y, manifold) == pytest.approx(biased, abs=1e-7)
    assert fm.evaluate.biased_geodesic_mmd(x, x, manifold) == 0
    nearest = [min(float(angle(a, b)) for b in y) for a in x]
    assert fm.evaluate.geodesic_nearest(x, y, manifold).tolist() == pytest.approx(nearest, abs=1e-6)


@pytest.mark.parametrize(
    "kernel", [fm.evaluate.gaussian_kernel, fm.evaluate.laplace_kernel], ids=["gaussian", "laplace"]
)
def test_two_draws_of_one_law_have_mean_zero_and_another_law_has_not(kernel):
    drawn = [cap(100, seed) for seed in range(120)]
    found = [fm.evaluate.geodesic_mmd(x, y, GLOBE, kernel) for x, y in zip(drawn[::2], drawn[1::2], strict=True)]
    values = torch.tensor([one.value for one in found])
    stderr = float(values.std()) / 60**0.5
    assert abs(float(values.mean())) < 4 * stderr and stderr < 1e-3
    told = float(torch.tensor([one.stderr for one in found]).mean())
    assert 0.9 * float(values.std()) < told < 1.7 * float(values.std())  # leaving out is sqrt(2) too large here
    other = fm.evaluate.geodesic_mmd(drawn[0], uniform(100, 5), GLOBE, kernel)
    assert other.value > 5 * other.stderr > 0.05
    # the biased form has no mean of zero
    assert all(fm.evaluate.biased_geodesic_mmd(*drawn[k : k + 2], GLOBE, kernel) > 0.04 for k in range(10))


def test_coverage_counts_the_data_with_a_near_sample():
    y = cap(400, 0)
    real = [fm.evaluate.coverage(cap(400, seed), y, GLOBE).value for seed in range(1, 6)]
    assert sum(real) / 5 == pytest.approx(1 - 2**-5, abs=0.015)  # 4 standard errors of 400 data
    assert fm.evaluate.coverage(y[y[:, 0] > 0], y, GLOBE).value == pytest.approx(0.55, abs=0.06)
    assert fm.evaluate.coverage(-y, y, GLOBE).value < 0.05
    copies = torch.cat([y, y[:1].expand(50, 3)])  # a point with more copies than neighbours has no empty ball
    assert fm.evaluate.coverage(y + 0, copies, GLOBE).value == 1
    with pytest.raises(ValueError, match="needs 6 distinct data, got 1"):
        fm.evaluate.coverage(y, y[:1].expand(50, 3), GLOBE)


def test_wrong_points_are_refused():
    x = uniform(10, 0)
    for wrong, message in [
        (lambda: fm.evaluate.geodesic_mmd(x[:2], x, GLOBE), r"at least 3 points \(N, 3\) of Sphere"),
        (lambda: fm.evaluate.geodesic_mmd(x[:, :2], x, GLOBE), r"got \(10, 2\)"),
        (lambda: fm.evaluate.geodesic_mmd(x, 1.1 * x, GLOBE), "y must be points of Sphere.* and 10 of 10 are off it"),
        (lambda: fm.evaluate.coverage(x * math.nan, x, GLOBE), "x must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()


def test_an_evaluation_on_a_manifold_has_geodesic_distances_beside_floor_noise_and_many_steps():
    data = fm.data.on_manifold(cap(1200, 0), GLOBE)
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(3, width=8, depth=1), path=fm.path.Geodesic(GLOBE))
    found = fm.evaluate.evaluate(flow, data, n=100, draws=2, jumps=[1], ode_steps=[2])
    assert "geodesic" in found["metric"] and {"distance", "coverage", "neighbour_ratio", "copies"} == set(
        found["measures"]
    )
    assert abs(found["floor"]) < 0.02 < found["noise"] and found["coverage_floor"] > 0.9
    assert [(row["sampler"], row["steps"]) for row in found["rows"]] == [("jump", 1), ("euler", 2)]
    for row in found["rows"]:  # an untrained map gives its noise
        assert row["distance"] == pytest.approx(found["noise"], abs=0.1) and row["coverage"] < 0.8
        assert row["neighbour_ratio"] > 3 and row["copies"] < 0.5 * found["copies_floor"]
    # rows without a manifold get it from the path; a flat map of the points and rows off the sphere are refused
    again = fm.evaluate.evaluate(flow, cap(1200, 0).float(), n=100, draws=2, jumps=[1], ode_steps=[2])
    assert again["metric"] == found["metric"]
    with pytest.raises(
        ValueError, match=r"points on Sphere\(n=2\), and samples of a flow map with the path .* leave it"
    ):
        fm.evaluate.evaluate(fm.FlowMap(fm.networks.MLP(3, width=8, depth=1)), data)
    with pytest.raises(ValueError, match="rows of tensor are off its manifold"):
        fm.evaluate.evaluate(flow, 0.5 * cap(1200, 0).float())


def test_residuals_on_a_manifold_are_zero_for_the_exact_map():
    """The rules of flat space are not zero there, and are refused."""
    law = fm.exact.Zonal([0.6, 0.4], [1, -1], 20.0)

    def network(x, s, t):
        return law.average_velocity(x, s[:, None], t[:, None])

    flow, x0 = fm.FlowMap(network, path=law.path), law.sample(32, torch.Generator().manual_seed(0))
    grid = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    found = fm.evaluate.consistency_residuals(flow, x0, grid=grid)
    assert found[found.isfinite()].max() < 1e-8 and int(found.isfinite().sum()) == 6
    s, t = (torch.full((32, 1), time, dtype=torch.float64) for time in (0.9, 0.3))
    x = law.path.interpolate(x0, torch.randn(32, 3, dtype=torch.float64), s)
    assert fm.consistency.lagrangian(flow, flow, x, s, t).norm(dim=-1).mean() > 0.1
    with pytest.raises(ValueError, match="formula of flat space"):
        fm.evaluate.consistency_residuals(flow, x0, rule=fm.consistency.lagrangian)
