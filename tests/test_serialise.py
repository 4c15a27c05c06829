"""Descriptions: flow maps written as JSON and built again; nothing foreign is built."""

import dataclasses
import importlib
import inspect
import json
import shutil
from pathlib import Path
from typing import get_type_hints

import pytest
import torch

import flowmaps as fm
from flowmaps import networks, weight
from flowmaps.serialise import build, checking, current, describable, describe, differences, find, public_name, registry
from flowmaps.serialise import names as module
from tests.in_one import in_one
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
    "value",
    [Foreign(), ForeignButDecorated(), lambda x: x, torch.nn.MultiheadAttention(1, 1), torch.tanh, {1, 2}, object],
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
        ({"type": "flowmaps.networks.mlp:Gone", "arguments": {}}, "no part 'flowmaps.networks.mlp:Gone' that a file"),
        ({"type": "networks.Gone", "arguments": {}}, "no part 'networks.Gone'.* from another version"),
        ({"type": "flowmaps.gone:MLP", "arguments": {}}, "from another version"),
        ({"type": "flowmaps.outputs:average_velocity", "arguments": {}}, "names a class here, and 'flowmaps.outputs"),
        ({"function": "networks.MLP"}, "names a function here, and 'networks.MLP' is not one"),
        ({"type": "flowmaps.serialise:Tensor", "arguments": {}}, "no part 'flowmaps.serialise:Tensor'"),
        ({"function": "flowmaps.serialise:importlib"}, "no part 'flowmaps.serialise:importlib'"),
        ({"function": "networks.layers"}, "no part 'networks.layers'"),
        ({"function": "networks.pca_basis"}, "no part"),
        ({"function": "networks.MLP.lipschitz"}, "no part"),
        ({"type": "weight.Tensor", "arguments": {}}, "no part"),
        ({"function": "weight.squared"}, "no part"),
        ({"function": "path._det"}, "no part"),
        ({"function": "students.student"}, "no part"),
        ({"type": "exact.Gaussian", "arguments": {}}, "no part"),
        ({"type": "guidance.ClassifierFree", "arguments": {}}, "no part"),
        ({"type": "cli.options.Train", "arguments": {}}, "no part 'cli.options.Train'"),
        ({"type": "experiments.guided_run.Setup", "arguments": {}}, "no part"),
        ({"type": "runs.Run", "arguments": {"path": "/"}}, "no part"),
        ({"type": "training.WarmUpDecay", "arguments": {}}, "no part"),
        ({"type": "networks", "arguments": {}}, "no part"),
        ({"type": "", "arguments": {}}, "no part"),
        ({"type": "x" * 10**6, "arguments": {}}, "no part 'xxxx"),
        ({"type": 3, "arguments": {}}, "only name parts of flowmaps"),
        ({"type": ["networks.MLP"], "arguments": {}}, "only name parts of flowmaps"),
        ({"type": "networks.MLP", "arguments": {"width": 8}}, "do not fit networks.MLP: missing a required argument"),
        ({"type": "networks.MLP", "arguments": {"shape": 2, "widht": 8}}, "unexpected keyword argument 'widht'"),
        ({"type": "networks.MLP", "arguments": [2]}, "the arguments of networks.MLP must be a JSON object"),
        ({"tensor": [2], "dtype": "load"}, "'load' is not a dtype"),
        ({"tensor": [2], "dtype": ["float32"]}, "is not a dtype"),
        ({"tensor": [-2], "dtype": "float32"}, "the shape of a tensor is a list of whole numbers"),
        ({"tensor": [2.5], "dtype": "float32"}, "the shape of a tensor is a list of whole numbers"),
        ({"tensor": 2, "dtype": "float32"}, "the shape of a tensor is a list of whole numbers"),
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
            with pytest.raises(ValueError, match="has no part"):
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


@in_one("name", registry.NAMES)
def test_every_name_of_the_registry_leads_to_a_public_part_that_describes_itself(name):
    """It is public, its own name leads back to it, and the types of its parameters are known."""
    place, last = registry.NAMES[name]
    thing = find(name)
    assert registry.is_named(thing) and public_name(thing) == name and not last.startswith("_")
    assert thing is getattr(importlib.import_module(f"flowmaps.{place}"), last)
    called = checking._hints(thing) if isinstance(thing, type) else get_type_hints(thing)
    assert isinstance(thing, type) or inspect.isfunction(thing)
    parameters = inspect.signature(thing).parameters.values()
    named = {one.name for one in parameters if one.kind is not one.VAR_POSITIONAL}  # a file has names alone
    assert called.keys() >= named - {"self"}


def test_the_registry_holds_the_parts_of_flow_maps_and_nothing_more():
    """A part that is missing here cannot be loaded from a run; a part that is too much can be named by anybody."""
    classes = {name for name in registry.NAMES if isinstance(find(name), type)}
    values = {name for name in classes if dataclasses.is_dataclass(find(name))}
    assert classes - values == {
        "flow_map.FlowMap", "integrations.diffusers.DiffusersNetwork", "integrations.peft.Adapted",
        "links.Capped", "links.Hull",
        "networks.CausalTransformer", "networks.ConcatMLP", "networks.DiT", "networks.DivergenceHead",
        "networks.GaussianEndpoint", "networks.GaussianInput", "networks.Head", "networks.InBasis", "networks.MLP",
        "networks.OnCircles", "networks.Recurrent", "networks.SelfConditioned", "networks.StateInput",
        "networks.TokenTransformer", "networks.UNet", "networks.WithBackbone", "networks.WithDivergence",
        "outputs.Bounded", "outputs.GaussianSkip", "outputs.MixturePolicy", "outputs.SeparableSkip",
        "students.Diagonal", "students.Student",
    }  # fmt: skip
    assert all(find(name).__dataclass_params__.frozen for name in values)
    assert {name for name in module.PUBLIC if name in registry.PARTS} == set(registry.PARTS)
    roles = [fm.networks.TIME_CONDITIONINGS.values(), (fm.path.data, fm.path.noise, fm.path.velocity), PATHS.values()]
    for part in (part for role in roles for part in role):
        assert build(describe(part)) == part


NAMES = json.loads((Path(__file__).parent / "data" / "names_of_0_1.json").read_text())


@in_one("before", NAMES["found"])
def test_a_name_of_version_0_1_leads_to_the_thing_of_today(before):
    assert public_name(find(before)) == NAMES["found"][before]
    assert current({"type": before}) == {"type": NAMES["found"][before]}


@in_one("before", NAMES["named"])
def test_a_name_of_version_0_1_that_no_flow_map_needs_is_translated_and_not_found(before):
    """Terms of methods and transforms of data: they are compared when a run goes on, and never built from a file."""
    assert current({"type": before}) == {"type": NAMES["named"][before]}
    with pytest.raises(ValueError, match="has no part"):
        find(before)


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
