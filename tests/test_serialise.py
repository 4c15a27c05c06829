"""Descriptions: flow maps written as JSON and built again; nothing foreign is built."""

import json
import shutil

import pytest
import torch

import flowmaps as fm
from flowmaps import networks
from flowmaps import serialise as module
from flowmaps.serialise import build, describable, describe, differences
from tests.oracles import PATHS

OUTPUTS = {
    "average_velocity": fm.average_velocity,
    "endpoint": fm.Endpoint(min_time=0.1),
    "position": fm.Position(data_std=0.7),
    "gaussian_skip": fm.GaussianSkip.fit(torch.randn(20, 4, generator=torch.Generator().manual_seed(0))),
}


def round_trip(obj):
    return build(json.loads(json.dumps(describe(obj))))


def network():
    torch.manual_seed(3)
    made = networks.MLP(4, width=8, depth=2, embedding=8, times=networks.gap, features=networks.Fourier(), classes=3)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_a_flow_map_comes_back_with_its_state(path, output):
    flow = fm.FlowMap(network(), output, path)
    again = round_trip(flow)
    again.load_state_dict(flow.state_dict())
    x, label = torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0])
    assert torch.equal(again.given(label=label)(x, 0.9, 0.2), flow.given(label=label)(x, 0.9, 0.2))
    assert again.path == path and describe(again) == describe(flow)


def test_a_partial_map_stays_partial():
    again = round_trip(fm.FlowMap(network(), only_target=0.0))
    assert again.only_target == 0.0 and again.only_source is None


def test_tensors_are_kept_as_shape_and_dtype():
    value = torch.ones(2, 3, dtype=torch.float64)
    assert describe(value) == {"tensor": [2, 3], "dtype": "float64"}
    built = round_trip(value)
    assert built.shape == value.shape and built.dtype == value.dtype and (built == 0).all()


def test_plain_values_come_back():
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert round_trip(value) == value
    assert round_trip((1, 2)) == [1, 2]


def test_functions_of_the_package_are_named():
    assert describe(fm.average_velocity) == {"function": "flowmaps.outputs:average_velocity"}
    assert round_trip(networks.gap_only) is networks.gap_only


class Foreign(torch.nn.Module):
    pass


@describable
class ForeignButDecorated:
    def __init__(self, a=1):
        self.a = a


@pytest.mark.parametrize(
    "value", [Foreign(), ForeignButDecorated(), lambda x: x, torch.nn.Linear(1, 1), torch.tanh, {1, 2}, object]
)
def test_what_is_not_of_the_package_cannot_be_described(value):
    with pytest.raises(TypeError, match="cannot describe .*pass your own network"):
        describe(value)
    with pytest.raises(TypeError, match="cannot describe"):
        describe(fm.FlowMap(value if isinstance(value, torch.nn.Module) else Foreign()))


def test_a_subclass_of_a_describable_class_is_foreign():
    class Mine(networks.MLP):
        pass

    with pytest.raises(TypeError, match="cannot describe"):
        describe(Mine(2))


@pytest.mark.parametrize(
    "description, message",
    [
        ({"type": "os:system", "arguments": {"command": "true"}}, "only name parts of flowmaps.*'os:system'"),
        ({"function": "builtins:eval"}, "only name parts of flowmaps"),
        ({"type": "flowmaps.networks.mlp:Gone", "arguments": {}}, "has no 'flowmaps.networks.mlp:Gone'"),
        ({"type": "flowmaps.gone:MLP", "arguments": {}}, "from another version"),
        ({"type": "flowmaps.outputs:average_velocity", "arguments": {}}, "classes and functions of flowmaps"),
        ({"type": "flowmaps.serialise:Tensor", "arguments": {}}, "classes and functions of flowmaps"),
        ({"function": "flowmaps.serialise:importlib"}, "classes and functions of flowmaps"),
    ],
)
def test_only_parts_of_the_package_are_built(description, message):
    with pytest.raises(ValueError, match=message):
        build(description)


def test_what_a_module_has_imported_is_out_of_reach(monkeypatch, tmp_path):
    """A file that names shutil.rmtree through a module of ours that uses it."""
    monkeypatch.setattr(module, "rmtree", shutil.rmtree, raising=False)
    for kind in ("type", "function"):
        with pytest.raises(ValueError, match="classes and functions of flowmaps"):
            build({kind: "flowmaps.serialise:rmtree", "arguments": {"path": str(tmp_path)}})
    assert tmp_path.exists()


def test_differences_are_named_by_their_place():
    before, now = {"a": {"b": [1, 2], "c": 3}}, {"a": {"b": [1, 5], "c": 3, "d": "x"}}
    assert list(differences(before, now, "top")) == ["top.a.b[1] was 2 and is 5", "top.a.d was None and is x"]
    assert list(differences(before, before, "top")) == []
    mlp, unet = ({"type": name, "arguments": {"width": width}} for name, width in (("MLP", 8), ("UNet", 16)))
    assert list(differences(mlp, unet, "network")) == ["network was MLP and is UNet"]
