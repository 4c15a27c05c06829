"""Runs on manifolds: the path, the network and the method of data, tables of samples, evaluation, refusals."""

import csv
import math

import pytest
import torch

import flowmaps as fm
from flowmaps.experiments import evaluate, likelihood, sample, train
from flowmaps.experiments.comparison_runs import ComparisonRuns
from flowmaps.networks import MLP, OnCircles
from flowmaps.recipes import flow_for, method_for
from flowmaps.recipes.rows import row_of

GLOBE = fm.manifolds.Sphere(2)
SMALL = {"width": 8, "depth": 1, "batch_size": 16, "steps": 2, "progress_bar": False}


def table(path, heading, rows):
    path.write_text(
        "\n".join([heading, *(",".join(f"{value:.4f}" for value in row) for row in rows)]), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def quakes(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 2, generator=generator) * torch.tensor([10.0, 20.0]) + torch.tensor([40.0, 170.0])
    return table(tmp_path_factory.mktemp("data") / "quakes.csv", "lat,lon", rows.tolist())


@pytest.fixture(scope="module")
def run(quakes):
    return train(f"sphere:{quakes}", out=quakes.parent / "run", **SMALL)


def test_a_run_on_the_globe_has_the_geodesic_path_and_its_method(run, quakes):
    assert run.flow.path == fm.path.Geodesic(GLOBE) and run.flow.units is None
    assert run.config["method"]["name"] == "gfm_lsd" and run.config["data"]["kind"] == "vectors"
    said = []
    twice = table(quakes.parent / "twice.csv", "lat,lon", [[50, 1], [50, 1], [3, 4], [5, 6]])
    train(f"sphere:{twice}", out=quakes.parent / "twice", say=said.append, network="mlp", **SMALL)
    assert said[0] == f"1 of the 4 rows of {twice} are copies of others: 3 distinct points"


def test_samples_are_a_table_in_degrees_that_can_be_read(run, tmp_path):
    x = sample(run, n=20, out=tmp_path / "s.csv", device="cpu")
    assert torch.allclose(x.norm(dim=1), torch.ones(20), atol=1e-6)
    lines = list(csv.reader((tmp_path / "s.csv").open()))
    assert lines[0] == ["lat", "lon"] and len(lines) == 21
    latitude = torch.tensor([float(line[0]) for line in lines[1:]])
    assert torch.allclose(torch.sin(latitude * math.pi / 180), x[:, 2], atol=1e-5)
    again = fm.data.sphere(tmp_path / "s.csv", held_out=0).draw(20).x0
    assert torch.allclose(again.sort(0).values, x.sort(0).values, atol=1e-5)


def test_a_run_on_a_manifold_is_evaluated_by_geodesic_distances(run):
    found = evaluate(run, n=24, draws=2, jumps=[1], ode_steps=[2], say=None)
    assert "geodesic" in found["metric"] and found["noise"] > found["floor"]
    assert math.isfinite(found["rows"][0]["distance"]) and found["rows"][1]["sampler"] == "euler"


def test_log_densities_of_a_run_are_with_respect_to_area(run):
    """Random rows are uniform; the table is per dimension of the sphere, and not per coordinate."""
    found = likelihood(run, n=8, by="ode:2", device="cpu")
    assert torch.allclose(found.x["random"].norm(dim=1), torch.ones(8))
    assert found.rows[0].per_value == pytest.approx(found.rows[0].nats / 2)
    assert any("Sphere(n=2) are with respect to its volume" in note for note in found.notes)
    later = likelihood(run, n=8, by="ode:2", start=0.2, device="cpu")
    assert "The density is one of data with noise, at t = 0.2" in later.notes
    for by in ("bound:2", "joint:1"):
        with pytest.raises(ValueError, match="formulas of flat space, and this flow has the path .*take the estimator"):
            likelihood(run, n=8, by=by, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "imf"},
            r"formula of flat space, and Geodesic\(.* is curved: take a method of fm.methods.MANIFOLDS",
        ),
        ({"method": "f2d2"}, "formula of flat space|no sum of data and noise"),
        ({"output": "endpoint"}, "the network predicts the average velocity"),
        ({"network": "unet"}, "is for images"),
        ({"data_args": {"standardise": True}}, "not standardised"),
    ],
)
def test_flat_methods_outputs_and_units_are_refused(quakes, options, message):
    with pytest.raises(ValueError, match=message):
        train(f"sphere:{quakes}", out=quakes.parent / "refused", **{**SMALL, **options})
    assert not (quakes.parent / "refused" / "config.json").exists()


def test_a_flat_map_of_points_and_a_geodesic_map_of_other_rows_are_refused(quakes):
    data = fm.data.sphere(quakes)
    flat, curved = (
        fm.FlowMap(MLP(3, width=8, depth=1), path=path) for path in (fm.path.linear, fm.path.Geodesic(GLOBE))
    )
    with pytest.raises(
        ValueError, match=r"points on Sphere\(n=2\), and samples of a flow map with the path .* leave it"
    ):
        fm.train(flat, "lsd", data, steps=1)
    with pytest.raises(ValueError, match=r"192 of 192 rows of tensor are off its manifold, up to 0.5"):
        fm.train(curved, fm.methods.gfm_lsd(), 0.5 * data.draw(240).x0, steps=1)
    with pytest.raises(ValueError, match=r"points on Sphere\(n=2\) are rows \(3,\), and tensor has rows \(2,\)"):
        fm.train(curved, fm.methods.gfm_lsd(), torch.randn(100, 2), steps=1)
    with pytest.raises(ValueError, match=r"points on Torus\(n=3\), and the flow map has the path"):
        fm.train(curved, fm.methods.gfm_lsd(), fm.data.torus(90 * torch.randn(100, 3).clamp(-3, 3)), steps=1)
    with pytest.raises(ValueError, match="formula of flat space"):
        fm.train(curved, "lsd", data, steps=1)
    fm.fit(curved, fm.methods.gfm_lsd(), data.draw(200).x0, steps=1, progress_bar=False)


def test_couplings_of_a_map_on_a_manifold_are_training_data(run, quakes):
    data = fm.data.reflow(run.flow, fm.data.sphere(quakes), n=32, steps=2)
    batch = next(data.batches(16))
    assert data.manifold == GLOBE and batch.noise is not None
    ends = fm.sample(run.flow, run.flow.path.noise(batch.noise), 2, step="heun")
    assert torch.allclose(ends, batch.x0, atol=1e-5)
    fm.fit(run.flow, fm.methods.riemannian_flow_matching(), data, steps=1, batch_size=8, progress_bar=False)


def test_the_diffusion_model_of_a_comparison_has_the_path_of_the_data(quakes):
    work = ComparisonRuns(fm.data.sphere(quakes), quakes.parent, {}, {"width": 8, "depth": 1}, {}, None, 10)
    taught = row_of("riemannian_consistency")
    assert work.diffusion == "riemannian_flow_matching" and work.teacher([taught]) == quakes.parent / "teacher"
    work.check([taught, row_of("gfm_psd")])
    with pytest.raises(ValueError, match="formula of flat space"):
        work.check([row_of("meanflow")])


def test_the_network_of_a_torus_has_no_seam():
    angles = torch.rand(200, 3, dtype=torch.float64) * 2 * math.pi - math.pi
    data = fm.data.torus(angles, radians=True)
    flow = flow_for(data, width=16, depth=1).double()
    assert isinstance(flow.network, OnCircles) and flow.path == fm.path.Geodesic(fm.manifolds.Torus(3))
    assert method_for(data).name == "gfm_lsd"
    for weight in flow.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    seam = torch.tensor([[math.pi, 0.3, -1.0], [-math.pi + 1e-12, 0.3, -1.0]], dtype=torch.float64)
    values = flow.average_velocity(seam, 0.8, 0.2)
    assert torch.allclose(values[0], values[1], atol=1e-10) and values.abs().min() > 1e-4
    loss = method_for(data).loss(flow, data.draw(8).x0.double())
    loss.value.backward()
    assert loss.value.isfinite()  # forward mode passes through sines and cosines


def test_angles_beside_other_coordinates_keep_their_places():
    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x, s, t):
            self.seen = x
            return torch.arange(x.shape[1]) + torch.zeros_like(x)

    x = torch.tensor([[0.5, 7.0, 1.5, 8.0]])
    network = OnCircles(Told(), 4, [2, 0])
    found = network(x, torch.ones(1), torch.zeros(1))
    cos, sin = torch.cos(x[:, [2, 0]]), torch.sin(x[:, [2, 0]])
    assert torch.equal(network.network.seen, torch.cat([x[:, [1, 3]], cos, sin], 1))
    rates = cos * torch.tensor([4.0, 5.0]) - sin * torch.tensor([2.0, 3.0])
    assert torch.allclose(found, torch.stack([rates[:, 1], torch.zeros(1), rates[:, 0], torch.ones(1)], 1))
    with pytest.raises(ValueError, match="angles are different coordinates 0 to 3"):
        OnCircles(Told(), 4, [4])
