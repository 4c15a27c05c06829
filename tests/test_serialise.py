"""Descriptions: flow maps written as JSON and built again; nothing foreign is built."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps import networks, weight
from flowmaps.serialise import build, current, describable, describe, differences, find, public_name
from flowmaps.serialise import names as module
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
    assert describe(fm.average_velocity) == {"function": "outputs.average_velocity"}
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
        ({"type": "flowmaps.networks.mlp:Gone", "arguments": {}}, "has no public 'flowmaps.networks.mlp:Gone'"),
        ({"type": "networks.Gone", "arguments": {}}, "has no public 'networks.Gone'.* from another version"),
        ({"type": "flowmaps.gone:MLP", "arguments": {}}, "from another version"),
        ({"type": "flowmaps.outputs:average_velocity", "arguments": {}}, "public classes of flowmaps"),
        ({"function": "networks.MLP"}, "public functions of flowmaps, and 'networks.MLP' is not one"),
        ({"type": "flowmaps.serialise:Tensor", "arguments": {}}, "has no public 'flowmaps.serialise:Tensor'"),
        ({"function": "flowmaps.serialise:importlib"}, "has no public 'flowmaps.serialise:importlib'"),
        ({"function": "networks.layers"}, "public functions of flowmaps"),
        ({"type": "weight.Tensor", "arguments": {}}, "public classes of flowmaps"),
        ({"function": "path._det"}, "public functions of flowmaps|has no public"),
        ({"function": "students.student"}, "public functions of flowmaps"),
        ({"type": "exact.Gaussian", "arguments": {}}, "public classes of flowmaps"),
        ({"type": "cli.options.Train", "arguments": {}}, "has no public 'cli.options.Train'"),
        ({"type": "experiments.guided_run.Setup", "arguments": {}}, "has no public"),
        ({"type": "runs.Run", "arguments": {"path": "/"}}, "has no public"),
        ({"type": "training.WarmUpDecay", "arguments": {}}, "has no public"),
        ({"type": 3, "arguments": {}}, "only name parts of flowmaps"),
        ({"type": "networks.MLP", "arguments": {"width": 8}}, "do not fit networks.MLP: missing a required argument"),
        ({"type": "networks.MLP", "arguments": {"shape": 2, "widht": 8}}, "unexpected keyword argument 'widht'"),
        ({"type": "networks.MLP", "arguments": [2]}, "do not fit networks.MLP"),
        ({"tensor": [2], "dtype": "load"}, "'load' in this description is not a dtype"),
    ],
)
def test_only_public_parts_of_the_package_are_built(description, message):
    with pytest.raises(ValueError, match=message) as error:
        build(description)
    assert "\n" not in str(error.value)


def test_an_import_of_a_module_is_out_of_reach(monkeypatch, tmp_path):
    """A file that names shutil.rmtree through a public module of ours that uses it."""
    monkeypatch.setattr(weight, "rmtree", shutil.rmtree, raising=False)
    for kind in ("type", "function"):
        for name in ("flowmaps.weight:rmtree", "weight.rmtree"):
            with pytest.raises(ValueError, match="may only name public"):
                build({kind: name, "arguments": {"path": str(tmp_path)}})
    assert tmp_path.exists()


def test_names_say_nothing_of_files():
    assert public_name(networks.DiT) == "networks.DiT" and public_name(fm.Endpoint) == "outputs.Endpoint"
    assert public_name(fm.times.logit_normal_pairs) == "times.logit_normal_pairs"
    assert public_name(fm.grids.karras) == "times.grids.karras" and public_name(fm.Term) == "method.Term"
    assert public_name(torch.nn.Linear) == "torch.nn.modules.linear:Linear"
    flow = fm.FlowMap(network(), OUTPUTS["endpoint"])
    assert set(named(describe(flow))) == {
        "flow_map.FlowMap", "networks.MLP", "networks.Fourier", "networks.gap", "networks.unchanged", "path.Linear",
        "outputs.Endpoint",
    }  # fmt: skip


def named(description):
    """All names in a description."""
    if isinstance(description, list):
        return [name for item in description for name in named(item)]
    if not isinstance(description, dict):
        return []
    here = [description[key] for key in ("type", "function") if key in description]
    return here + [name for item in description.values() for name in named(item)]


@pytest.mark.parametrize("place", module.PUBLIC)
def test_every_public_class_that_can_be_described_is_found_by_its_name(place):
    found = importlib.import_module(f"flowmaps.{place}")
    known = [thing for name in dir(found) if module.is_named(thing := getattr(found, name))]
    assert place in {"draws", "exact"} or any(module.public_module(thing.__module__[9:]) == place for thing in known)
    for thing in known:
        assert find(public_name(thing)) is thing


def test_two_describable_classes_never_share_a_name():
    for place in module.PUBLIC:
        importlib.import_module(f"flowmaps.{place}")
    ours = [cls for cls in module._describable if cls.__module__.startswith("flowmaps.")]
    assert len({public_name(cls) for cls in ours}) == len(ours) > 15
    assert all(find(public_name(cls)) is cls for cls in ours)


NAMES = json.loads((Path(__file__).parent / "data" / "names_of_0_1.json").read_text())


@pytest.mark.parametrize("before", NAMES["found"])
def test_a_name_of_version_0_1_leads_to_the_thing_of_today(before):
    assert public_name(find(before)) == NAMES["found"][before]
    assert current({"type": before}) == {"type": NAMES["found"][before]}


def test_other_names_of_version_0_1_are_refused_in_one_sentence():
    for group, names in NAMES["refused"].items():
        for before in names:
            with pytest.raises(ValueError) as error:
                find(before)
            assert before in str(error.value) and "\n" not in str(error.value), group


def test_names_of_before_are_translated_wherever_they_stand(monkeypatch):
    monkeypatch.setitem(module.RENAMED, "times.gap", "times.interval")
    before = {
        "a": ["flowmaps.times:gap.<locals>.draw", "flowmaps.weight:squared"],
        "b": {"function": "flowmaps.term:Term.draw", "with": {"x": "flowmaps is a word: so it stays"}},
        "c": "flowmaps.times:gap_logit_normal.<locals>.draw",
        "d": 1.0,
    }
    assert current(before) == {
        "a": ["times.interval.<locals>.draw", "weight.squared"],
        "b": {"function": "method.Term.draw", "with": {"x": "flowmaps is a word: so it stays"}},
        "c": "times.gap_logit_normal.<locals>.draw",
        "d": 1.0,
    }
    assert current(current(before)) == current(before)


def test_differences_are_named_by_their_place():
    before, now = {"a": {"b": [1, 2], "c": 3}}, {"a": {"b": [1, 5], "c": 3, "d": "x"}}
    assert list(differences(before, now, "top")) == ["top.a.b[1] was 2 and is 5", "top.a.d was None and is x"]
    assert list(differences(before, before, "top")) == []
    mlp, unet = ({"type": name, "arguments": {"width": width}} for name, width in (("MLP", 8), ("UNet", 16)))
    assert list(differences(mlp, unet, "network")) == ["network was MLP and is UNet"]
