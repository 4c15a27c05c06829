"""Hostile sizes in a stranger's run: refused before anything of that size is made."""

import json

import pytest
import torch

import flowmaps as fm
from flowmaps import networks
from flowmaps.runs import loading, outline
from flowmaps.serialise import build, describe
from tests.security.support import WAYS

SIZES = {
    "width": (10**6, "has shape"),
    "width beyond all": (2**31 - 1, "width must be a whole number from 1 to"),
    "width of many digits": (10**30, "takes width as int"),
    "depth": (16_000, "parts, far more than the weights"),
    "depth beyond all": (10**9, "depth must be a whole number from 1 to"),
    "negative depth": (-1, "depth must be a whole number from 1 to"),
    "classes": (10**6, "has shape"),
    "classes beyond all": (10**9, "classes must be a whole number from 1 to"),
    "negative classes": (-1, "classes must be a whole number from 1 to"),
    "embedding": (10**6, "has shape"),
    "shape": ([2**14, 2**14], "has shape"),
    "shape beyond all": ([2**31 - 1, 2**31 - 1], "shape of one x must be"),
    "features": ({"type": "networks.Fourier", "arguments": {"frequencies": 10**6}}, "has shape"),
    "features beyond all": (
        {"type": "networks.Fourier", "arguments": {"frequencies": 10**9}}, "frequencies must be a whole number"
    ),
}  # fmt: skip


@pytest.fixture
def made(monkeypatch):
    """The devices on which networks are made from a description."""
    found = []

    def spied(*arguments, **named):
        found.append(torch.get_default_device().type)
        return rebuild(*arguments, **named)

    rebuild = loading.rebuild
    monkeypatch.setattr(loading, "rebuild", spied)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_a_size_of_a_network_is_refused_before_it_is_made(size, stranger, made):
    """The network is made in outline alone, without memory."""
    value, said = SIZES[size]
    stranger.put(["flow", "network", "arguments", size.replace("negative ", "").split()[0]], value)
    message = stranger.message("load")
    assert said in message and str(stranger.run / "config.json") in message and "\n" not in message
    assert made == ["meta"]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_refused_from_every_way_in(way, stranger, made):
    stranger.put(["flow", "network", "arguments", "width"], 10**6)
    message = stranger.message(way)
    assert "do not fit this network" in message and "config.json" in message and set(made) == {"meta"}


def test_a_run_that_fits_is_made_in_outline_and_then_in_full(trained, made):
    flow = fm.load(trained)
    assert made == ["meta", "cpu"] and not any(value.is_meta for value in flow.state_dict().values())


OTHERS = {
    "a path of numbers": (["path"], {"type": "path.Discrete", "arguments": {"alphas_cumprod": 10**9}}, "takes alphas"),
    "an output of tensors": (
        ["output"],
        {"type": "outputs.GaussianSkip", "arguments": {
            "mean": {"tensor": [2**20], "dtype": "float64"},
            "variances": {"tensor": [2**20], "dtype": "float64"},
            "basis": {"tensor": [2**20, 2**20], "dtype": "float64"}}},
        "that are not in the checkpoint",
    ),
    "a basis": (
        ["network"],
        {"type": "networks.InBasis", "arguments": {
            "network": {"type": "networks.MLP", "arguments": {"shape": 2}},
            "basis": {"tensor": [2**20, 2**20], "dtype": "float64"}}},
        "do not fit this network",
    ),
    "a tensor in the guidance": (
        ["guidance"],
        {"type": "flow_map.GuidanceSpec", "arguments": {"null": {"label": {"tensor": [2**30], "dtype": "float64"}}}},
        "takes null as Mapping[str, Any], got a dict of other parts",
    ),
    "a tensor beyond all": (["output"], {"tensor": [2**30, 2**30], "dtype": "float32"}, "with a product of at most"),
    "a tensor with a negative size": (["output"], {"tensor": [-1], "dtype": "float32"}, "the shape of a tensor"),
    "positions of patches": (
        ["network"],
        {"type": "networks.DiT", "arguments": {
            "shape": [1, 2**14, 2**14], "patch": 1, "width": 384, "depth": 1}},
        "do not fit this network",
    ),
    "levels of a U-Net": (
        ["network"],
        {"type": "networks.UNet", "arguments": {"shape": [1, 2, 2], "multipliers": [2**20] * 2}},
        "the width of level 0 must be a whole number",
    ),
    "heads of no width": (
        ["network"],
        {"type": "networks.UNet", "arguments": {"shape": [1, 8, 8], "head_width": 0}},
        "head_width must be a whole number from 1",
    ),
    "patches of no size": (
        ["network"],
        {"type": "networks.DiT", "arguments": {"shape": [1, 8, 8], "patch": 0}},
        "patch must be a whole number",
    ),
    "layers of a model of diffusers": (
        ["network"],
        {"type": "integrations.diffusers.DiffusersNetwork", "arguments": {
            "class_name": "DiTTransformer2DModel",
            "config": {"num_layers": 10**9, "num_attention_heads": 1, "attention_head_dim": 4, "sample_size": 8}}},
        "parts, far more than the weights",
    ),
    "the width of a model of diffusers": (
        ["network"],
        {"type": "students.Student", "arguments": {"network": {
            "type": "integrations.diffusers.DiffusersNetwork", "arguments": {"class_name": "UNet2DModel", "config": {
                "block_out_channels": [2**20] * 4, "sample_size": 8}}}}},
        "do not fit this network",
    ),
    "the rank of an adapter": (
        ["network"],
        {"type": "integrations.peft.Adapted", "arguments": {"rank": 10**9, "network": {
            "type": "networks.MLP", "arguments": {"shape": 2, "width": 8, "depth": 2, "classes": 2}}}},
        "do not fit this network",
    ),
    "many conditions of a student": (
        ["network"],
        {"type": "students.Student", "arguments": {"told": ["a"] * 10**5, "network": {
            "type": "networks.MLP", "arguments": {"shape": 2, "width": 8, "depth": 2, "classes": 2}}}},
        "do not fit this network|cannot be made|far more than",
    ),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_other_sizes_are_refused_before_anything_is_made(other, stranger, made):
    place, value, said = OTHERS[other]
    stranger.put(["flow", *place], value)
    message = stranger.message("load")
    assert any(part in message for part in said.split("|")) and "\n" not in message and set(made) == {"meta"}


def test_buffers_beside_the_weights_are_bounded(stranger, monkeypatch):
    """Positions of patches are no weights: a DiT with the weights of the checkpoint may claim any sides."""
    network = networks.DiT((1, 8, 8), patch=2, width=16, depth=1, heads=2)
    flow = fm.FlowMap(network)
    shapes = {name: tuple(value.shape) for name, value in flow.state_dict().items()}
    large = describe(flow)
    large["arguments"]["network"]["arguments"]["shape"] = [1, 2**14, 2**14]
    file = stranger.run / "config.json"
    with pytest.raises(ValueError, match="4,295 MB that are not in the checkpoint"):
        outline.check_outline(lambda: build(large), shapes, stranger.run, file)
    outline.check_outline(lambda: build(describe(flow)), shapes, stranger.run, file)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["data", "shape"], [10**9], None),
        (["data", "shape"], [2**20, 2**20], "data.shape must be positive numbers with a product of at most"),
        (["data", "shape"], [], "data.shape must be positive numbers"),
        (["data", "shape"], [-2], "data.shape must be positive numbers"),
        (["data", "classes"], 10**9, "data.classes must be between 1 and"),
        (["data", "classes"], -1, "data.classes must be between 1 and"),
        (["data", "classes"], None, "training.labels is true, but there are no data.classes"),
        (["data", "recipe", "labels"], 10**9, "takes labels as bool, got 1000000000"),
        (["data", "recipe"], {"name_or_path": "spirals", "arms": 10**9}, "arms must be a whole number from 1 to"),
        (["data", "recipe"], {"name_or_path": "spirals", "arms": "2"}, "spirals takes arms as int, got '2'"),
        (["data", "recipe"], {"name_or_path": "gaussian", "mean": [[1]]}, "takes mean as Sequence[float]"),
        (["data", "recipe"], {"name_or_path": "gaussian", "mean": [1.0, 2.0, 3.0]}, "a Gaussian over 3"),
        (["data", "recipe"], {"name_or_path": "two_moons", "nois": 1.0}, "unexpected keyword argument 'nois'"),
        (["data", "recipe"], {"name_or_path": ["two_moons"]}, "name_or_path must be a string"),
        (["data", "recipe"], {"name_or_path": "two\0moons"}, "name_or_path must be a string"),
        (["data", "recipe"], {}, "name_or_path must be a string, got None"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["evaluate", "distill"])
def test_sizes_of_the_data_are_refused(place, value, said, way, stranger):
    stranger.put(place, value)
    message = stranger.message(way)
    assert "config.json" in message and "\n" not in message
    assert (said or "data.shape") in message


def test_a_shape_of_shards_that_is_a_lie_is_refused_before_it_is_made(tmp_path, monkeypatch):
    """Shards say themselves how large the whole tensor is."""
    from types import SimpleNamespace

    from flowmaps.distributed import shards

    entry = SimpleNamespace(size=torch.Size([2**40]), properties=SimpleNamespace(dtype=torch.float32))
    known = SimpleNamespace(state_dict_metadata={"flow.a": entry})
    reader = SimpleNamespace(HuggingFaceStorageReader=lambda path: SimpleNamespace(read_metadata=lambda: known))
    monkeypatch.setattr(shards, "storage", lambda: reader)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"0" * 64)
    for read in (lambda: shards.part_shapes(tmp_path, "flow"), lambda: shards.read_part(tmp_path, "flow", {})):
        with pytest.raises(ValueError, match="claim 4398046511104 bytes, and its files have 64"):
            read()


def test_an_adapter_of_another_rank_than_its_weights_is_refused(tmp_path):
    from flowmaps.integrations import peft

    base = fm.student(fm.FlowMap(networks.MLP(2, width=8, depth=2)))
    peft.save_adapter(peft.lora(base, 2), tmp_path)
    file = tmp_path / "flow_map_adapter.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "rank": 10**9}))
    with pytest.raises(ValueError, match="its rank is 1000000000, but the rank of the weights is 2"):
        peft.load_adapter(base, tmp_path)


def test_a_classifier_of_another_size_than_its_weights_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from flowmaps.evaluate.features import Classifier, load_classifier, save_classifier

    path = tmp_path / "classifier.safetensors"
    save_classifier(Classifier((1, 8, 8), 3), path)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for known in ('{"shape": [1, 8, 8], "classes": 1000000000}', '{"shape": [1, 1048576, 1048576], "classes": 3}',
                  '{"shape": [1, 8], "classes": 3}', '{"shape": "x"}', "[" * 10**5, ""):  # fmt: skip
        save_file(tensors, path, metadata={"classifier": known})
        with pytest.raises(ValueError, match="holds no classifier of flowmaps") as error:
            load_classifier(path)
        assert "\n" not in str(error.value)
