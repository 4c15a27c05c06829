"""`fm.save` and `fm.load` of a bare flow map: one file, without pickle, checked like a run."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import flowmaps as fm


def made(kind):
    torch.manual_seed(0)
    if kind == "mlp":
        return fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=3), only_target=0.0)
    if kind == "dit":
        network = fm.networks.DiT((1, 8, 8), width=32, depth=1, heads=2)
        return fm.FlowMap(network, fm.Endpoint(), fm.path.VariancePreserving())
    if kind == "skip":
        return fm.FlowMap(fm.networks.MLP(2, width=8, depth=1), fm.GaussianSkip.fit(torch.randn(50, 2)))
    guided = fm.GuidanceSpec((1.0, 4.0), (0.1, 0.9), {"label": 3})
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1).bfloat16(), guidance=guided)
    flow.trained = fm.TrainedSpec(up=True, conditions=("label",), dropped=("label",), shape=(2,))
    return flow


@pytest.mark.parametrize("kind", ["mlp", "dit", "skip", "guided bfloat16"])
def test_a_saved_flow_map_is_the_same_map(tmp_path, kind):
    flow, path = made(kind).eval(), tmp_path / "map.safetensors"
    fm.save(flow, path)
    torch.manual_seed(1)  # the weights come from the file
    again = fm.load(path)
    assert not again.training and (again.guidance, again.trained) == (flow.guidance, flow.trained)
    assert (again.only_source, again.only_target, again.path) == (flow.only_source, flow.only_target, flow.path)
    assert again.state_dict().keys() == flow.state_dict().keys()
    noise = fm.noise(flow, 3, seed=0)
    assert torch.equal(fm.sample(again, noise), fm.sample(flow, noise))


def test_a_flow_map_of_standardised_data_samples_in_its_units(tmp_path):
    flow, path = made("mlp").eval(), tmp_path / "map.safetensors"
    flow.units = fm.Units((5e4, -0.03), (2e4, 0.0))
    fm.save(flow, path)
    again, noise = fm.load(path), fm.noise(flow, 3, seed=0)
    assert again.units == flow.units and fm.load(path, made("mlp").network).units == flow.units
    x = fm.sample(again, noise, condition=torch.arange(3))
    assert torch.equal(x, fm.sample(flow, noise, condition=torch.arange(3)))
    assert x[:, 0].abs().max() > 1e3 and x[:, 1].eq(-0.03).all()
    torch.testing.assert_close(x, flow.units.restored(fm.sample(flow.standardised(), noise, condition=torch.arange(3))))


class Own(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Linear(2, width)
        self.out = nn.Linear(width, 2)

    def forward(self, x, s, t):
        return self.out(self.layer(x))


def test_a_network_of_ones_own_is_passed_again(tmp_path):
    flow, path = fm.FlowMap(Own()), tmp_path / "map.safetensors"
    fm.save(flow, path)
    with pytest.raises(ValueError, match="the network of this file is not part of flowmaps.*network="):
        fm.load(path)
    for given in (Own(), fm.FlowMap(Own())):
        assert torch.equal(fm.load(path, given)(torch.ones(1, 2), 1.0, 0.0), flow(torch.ones(1, 2), 1.0, 0.0))
    with pytest.raises(ValueError, match="do not fit this network"):
        fm.load(path, Own(width=5))
    with pytest.raises(TypeError, match="must be a module"):
        fm.load(path, "own")


def rewritten(path, change):
    """The file with a changed description, whose checksum is taken out."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["flowmaps"])
    del about["checksum"]
    change(about)
    save_file(load_file(path), path, {"flowmaps": json.dumps(about)})


def larger(about):
    about["flow"]["network"]["arguments"]["width"] = 4096


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (larger, "do not fit this network"),
        (lambda about: about["flow"]["network"].update(type="os.system"), "may name|no part"),
        (lambda about: about["flow"]["path"].update(type="networks.MLP"), "arguments|path"),
        (lambda about: about["flow"].update(only_target=7), r"a time in \[0, 1\]"),
        (lambda about: about["flow"].pop("output"), "the entry flow.output is missing"),
        (lambda about: about["flow"].update(units=about["flow"]["path"]), "flow.units must be a units.Units"),
        (
            lambda about: about["flow"].update(
                units={"type": "units.Units", "arguments": {"mean": [0.0], "std": [-1.0]}}
            ),
            "standard deviations of 0 or more",
        ),
        (lambda about: about.update(format=9), "written by a later version"),
        (lambda about: about.update(sha256="0"), "its weights have changed"),
        (lambda about: about.update(sha256=3), "sha256 must be str"),
        (lambda about: about.update(checksum="0"), "its description has changed"),
    ],
)
def test_a_changed_description_is_refused(tmp_path, change, match):
    path = tmp_path / "map.safetensors"
    fm.save(made("mlp"), path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=match):
        fm.load(path)


def test_other_files_are_refused(tmp_path):
    plain, pickled = tmp_path / "plain.safetensors", tmp_path / "map.pt"
    save_file({"x": torch.ones(2)}, plain)
    torch.save({"x": torch.ones(2)}, pickled)
    with pytest.raises(ValueError, match="without the description of a flow map, which fm.save writes"):
        fm.load(plain)
    with pytest.raises(ValueError, match="a pickle, which may hold code; it was not opened"):
        fm.load(pickled)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        fm.load(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("place", [3, -1])
def test_a_flipped_byte_is_noticed(tmp_path, place):
    path = tmp_path / "map.safetensors"
    fm.save(made("mlp"), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place == 3 else place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged|not a safetensors|cannot be used"):
        fm.load(path)


@pytest.mark.parametrize(
    ("save", "match"),
    [
        (lambda path: fm.save(fm.networks.MLP(2, 8, 1), path), "wrap the network"),
        (lambda path: fm.save(None, path), "needs a FlowMap"),
        (lambda path: fm.save(made("mlp").given(label=torch.ones(2)), path), "a bound condition is not saved.*label"),
        (lambda path: fm.save(made("mlp"), path.with_suffix(".pt")), "ends in .safetensors"),
        (lambda path: fm.save(made("mlp"), 3), "must be a path"),
        (lambda path: fm.save(made("mlp"), ""), "must be a path"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, save, match):
    with pytest.raises((TypeError, ValueError), match=match):
        save(tmp_path / "map.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "map.safetensors"
    fm.save(made("mlp"), path)
    fm.save(made("skip"), path)
    assert isinstance(fm.load(path).output, fm.GaussianSkip) and [path] == list(path.parent.iterdir())
