"""Runs on manifolds in pictures of training, files of samples and pages."""

import pytest
import torch
from PIL import Image

import flowmaps as fm
from flowmaps.experiments import sample
from flowmaps.experiments.sample_files import check_file, usual_file
from flowmaps.manifolds import Sphere
from flowmaps.recipes import flow_for
from flowmaps.reports import points
from flowmaps.reports.sections import Material
from flowmaps.runs.folder import read_config
from flowmaps.runs.loading import read_manifold

QUIET = {"batch_size": 16, "steps": 2, "progress_bar": False, "sample_every": 2}


def trained(data, out):
    """A run of two steps."""
    torch.manual_seed(0)
    list(fm.train(flow_for(data, width=8, depth=1), fm.methods.gfm_psd(), data, out=out, **QUIET))
    return out


@pytest.fixture(scope="module")
def globe(tmp_path_factory):
    degrees = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) * 20 + torch.tensor([10.0, 120.0])
    return trained(fm.data.sphere(degrees), tmp_path_factory.mktemp("globe") / "run")


def test_samples_of_a_globe_are_pictures_with_a_globe_and_a_map(globe, tmp_path):
    config = read_config(globe)
    assert read_manifold(config, globe) == Sphere(2) and str(usual_file(config)) == "samples.png"
    sample(globe, n=20, out=tmp_path / "globe.png", device="cpu")
    preview, made = (Image.open(path).size for path in (*(globe / "samples").glob("*.png"), tmp_path / "globe.png"))
    assert preview == made and made[0] > 2.5 * made[1]


def test_points_of_other_spheres_become_tables_and_no_pictures(tmp_path):
    x = Sphere(3).noise(torch.randn(60, 4, generator=torch.Generator().manual_seed(0)))
    run = trained(fm.data.on_manifold(x, Sphere(3)), tmp_path / "run")
    config = read_config(run)
    assert not list((run / "samples").glob("*")) and str(usual_file(config)) == "samples.csv"
    with pytest.raises(ValueError, match="can be drawn: write the samples to a .npy file, or vectors to .csv"):
        check_file(tmp_path / "x.png", 4, config)


@pytest.mark.slow
def test_a_page_shows_each_sampler_beside_data(tmp_path, monkeypatch):
    monkeypatch.setattr(points, "TIMES", (1.0, 0.0))
    angles = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) * 40
    data = fm.data.torus(angles)
    run = trained(data, tmp_path / "run")
    found = points.sections(Material(fm.load(run), data, {"rows": []}, read_config(run)))
    titles = [picture.title for picture in found.samples]
    assert titles == ["1 jump", "2 jumps", "4 jumps", "100 ODE steps", "real data"]
    assert [picture.title for picture in found.becoming] == ["t = 1", "t = 0"]
    assert found.samples[0].kind == "framed chosen" and "above real data" in found.beside.alt
    assert all(picture.dark.startswith("data:image/svg") for picture in (*found.samples, found.beside))


def test_pages_of_other_data_have_no_such_sections():
    data = fm.data.load("checkerboard")
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    assert points.sections(Material(flow, data, {"rows": []}, {})) is None
