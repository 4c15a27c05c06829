"""Pipeline folders of our own networks, loaded by diffusers alone."""

import json
import sys
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps import export
from flowmaps.cli import main

sys.path.insert(0, str(Path(__file__).parent))
from plain import assert_same, sampled  # noqa: E402

IMAGE, JUMPS = (1, 8, 8), (1, 2, 4)
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8}


def random(network):
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network


def flows():
    torch.manual_seed(0)
    mlp = fm.networks.MLP(2, 16, 2, embedding=8)
    dit = fm.networks.DiT(IMAGE, 4, 16, 2, 2, classes=3, times=fm.networks.decoupled)
    unet = fm.networks.UNet(IMAGE, 8, (1, 2), 1)
    basis = fm.networks.InBasis(fm.networks.MLP(IMAGE, 16, 2, embedding=8), fm.networks.pca_basis(torch.randn(99, 64)))
    skip = fm.GaussianSkip.fit(torch.randn(99, *IMAGE))
    return {
        "points": fm.FlowMap(random(mlp), path=fm.path.VarianceExploding(5.0)),
        "classes": fm.FlowMap(random(dit), fm.Bounded(fm.Endpoint()), fm.path.trigonometric),
        "unet": fm.FlowMap(random(unet), fm.Rotation(0.5)),
        "consistency": fm.FlowMap(random(basis), fm.Bounded(skip), only_target=0.0),
    }


def noise_and_label(flow):
    torch.manual_seed(1)
    shape = (2,) if isinstance(flow.network, fm.networks.MLP) else IMAGE
    label = torch.tensor([0, 1, 2]) if isinstance(flow.network, fm.networks.DiT) else None
    return torch.randn(3, *shape), label


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every flow map, what plain diffusers made of its folder at each number of jumps, and what else it said."""
    folder, calls, maps = tmp_path_factory.mktemp("exported"), [], flows()
    for name, flow in maps.items():
        export.to_diffusers(flow, folder / name)
        noise, label = noise_and_label(flow)
        given = {} if label is None else {"class_labels": label}
        for jumps in JUMPS:
            calls.append(
                (folder / name, {"latents": noise, "num_inference_steps": jumps, "output_type": "latent"} | given)
            )
    noise, label = noise_and_label(maps["classes"])
    more = {"latents": noise, "class_labels": label}
    calls += [
        (folder / "classes", more | {"sigmas": [1.0, 0.3], "output_type": "latent"}),
        (folder / "classes", more | {"output_type": "pt"}),
        (folder / "classes", {"class_labels": [2, 1]}),
        (folder / "classes", {"latents": noise[:1], "output_type": "latent"}),
        (folder / "points", {}),
    ]
    results = sampled(calls, folder)
    made = {name: dict(zip(JUMPS, results[3 * i : 3 * i + 3], strict=True)) for i, name in enumerate(maps)}
    return folder, maps, made, results[3 * len(maps) :]


@pytest.mark.parametrize("name", ["points", "classes", "unet"])
def test_the_same_noise_gives_the_same_samples(runs, name):
    _, maps, made, _ = runs
    flow = maps[name]
    noise, label = noise_and_label(flow)
    state = noise * flow.path.sigma(torch.ones(()))
    for jumps in JUMPS:
        assert_same(made[name][jumps], fm.sample(flow, state, jumps, condition=label))


def test_a_map_to_the_data_alone_jumps_once(runs):
    _, maps, made, _ = runs
    noise, _ = noise_and_label(maps["consistency"])
    assert_same(made["consistency"][1], fm.sample(maps["consistency"], noise))
    assert "knows one jump only, from noise to data: num_inference_steps=1" in made["consistency"][2]


def test_times_images_labels_and_errors(runs):
    _, maps, made, (at_times, pixels, pictures, null, points) = runs
    flow = maps["classes"]
    noise, label = noise_and_label(flow)
    assert_same(at_times, fm.sample(flow, noise, times=[1.0, 0.3, 0.0], condition=label))
    assert_same(pixels, (made["classes"][1] / 2 + 0.5).clamp(0, 1))
    assert [picture.size for picture in pictures] == [(8, 8)] * 2
    assert_same(null, fm.sample(flow, noise[:1]))
    assert 'these samples are no images: pass output_type="latent"' in points


def test_a_folder_is_replaced_only_where_it_is_an_export(runs, tmp_path):
    flow = runs[1]["points"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="exists and is no export of flowmaps: choose another folder"):
        export.to_diffusers(flow, mine)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
    export.to_diffusers(flow, tmp_path / "new")
    (tmp_path / "new" / "old.bin").write_text("of the last export")
    export.to_diffusers(flow, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "README.md", *sorted(path.name for path in (tmp_path / "new").glob("flow_map*")), "model_index.json", "network",
        "scheduler",
    ]  # fmt: skip


def test_a_network_of_somebody_elses_is_refused_whole(tmp_path):
    class Mine(torch.nn.Module):
        shape = (2,)

    with pytest.raises(ValueError, match="only networks of flowmaps and of diffusers become a pipeline folder.*Mine"):
        export.to_diffusers(fm.FlowMap(Mine()), tmp_path / "mine")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a measurement."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "eight"
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1, embedding=8))
    for _ in fm.train(flow, fm.methods.meanflow(), fm.data.load("eight_gaussians"), steps=2, out=folder, **QUIET):
        pass
    row = {"sampler": "jump", "steps": 1, "distance": 0.12345, "stderr": 0.00678, "seconds_per_sample": 2e-5,
           "network_calls": 1}  # fmt: skip
    measured = {"metric": "Energy distance", "floor": 0.001, "floor_stderr": 0.0002, "rows": [row], "step": 2,
                "samples": 64, "device": "cpu"}  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(measured))
    return folder


def test_the_card_says_what_is_known(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    import huggingface_hub

    head = huggingface_hub.ModelCard(card).data
    assert head.library_name == "diffusers" and head.license is None and "meanflow" in head.tags
    assert "| jump | 1 | 0.1235 ± 0.0068 | 1 | 2e-05 |" in card and "0.001 ± 0.0002" in card
    assert "| batch_size | 8 |" in card and "| method | meanflow |" in card
    (run / "evaluation.json").rename(run / "away.json")
    try:
        export.to_diffusers(run, tmp_path / "out")
    finally:
        (run / "away.json").rename(run / "evaluation.json")
    assert "Nothing has been measured yet" in (tmp_path / "out" / "README.md").read_text()


def test_the_use_on_the_card_runs(run, tmp_path, monkeypatch):
    import diffusers.utils.dynamic_modules_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    export.to_diffusers(run, "exported")
    use = Path("exported/README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(use, names)
    assert names["images"].shape == (2, 2)


def test_commands_that_cannot_be_are_refused(run, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    for arguments, said in (
        ([str(tmp_path / "no_run"), "out"], "no run folder"),
        ([str(run), str(tmp_path / "taken")], "is no export of flowmaps"),
        ([str(run), str(tmp_path / "out"), "--push-to-hub", "name"], "OWNER/NAME, got 'name'"),
    ):
        assert main(["export", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
