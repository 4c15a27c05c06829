"""Names in a stranger's config.json: nothing outside of the registry is imported, called or built, from any way in."""

import shutil

import pytest

import flowmaps as fm
from flowmaps.serialise import NAMES, build, find
from tests.security.support import WAYS

MLP = {"type": "networks.MLP", "arguments": {"shape": 2, "width": 8, "depth": 2, "classes": 2}}


def student(**arguments):
    return {"type": "students.Student", "arguments": {"network": MLP, **arguments}}


def called(name, **arguments):
    return {"type": name, "arguments": arguments}


def function(name):
    return {"function": name}


def payloads(run, marker):
    """Networks that would run code if a name were imported or a value were called: (description, said)."""
    run, marker = f"{run}/pipe", str(marker)
    train = called("cli.options.Train", depth=function("export.hub._load_pipeline"))
    old = called("flowmaps.cli.options:Train", depth=function("flowmaps.export.hub:_load_pipeline"))
    layers = called("students.TimeLayers", embedding=function("export.hub._load_pipeline"))
    shell = ["train", "two_moons", "--out", marker, "--steps", "1"]
    return {
        "a pipeline with its own code, loaded as a depth": (student(places=train), "no part 'cli.options.Train'"),
        "the same by the names of version 0.1": (student(places=old), "no part 'cli.Train'"),
        "a loader among the time layers": (student(places=layers), "no part 'export.hub._load_pipeline'"),
        "time layers whose depth is called": (
            student(places=called("students.TimeLayers", embedding="x", depth=function("networks.raw"))),
            "unexpected keyword argument 'depth'",
        ),
        "a known function among the time layers": (
            student(places=called("students.TimeLayers", embedding=function("networks.raw"))),
            "takes embedding as str | Sequence[str], got the function networks.raw",
        ),
        "the command line": (called("flowmaps.cli:main", argv=shell), "no part 'cli.main'"),
        "the command line as a function": (function("cli.main"), "no part 'cli.main'"),
        "the command line in a list": ([function("cli.main"), shell], "no part 'cli.main'"),
        "the main module": (called("flowmaps.__main__:main"), "no part '__main__.main'"),
        "the main module of today": (function("__main__.main"), "no part '__main__.main'"),
        "a command of the system": (called("os:system", command=f"touch {marker}"), "only name parts of flowmaps"),
        "a process": (called("subprocess:Popen", args=["touch", marker]), "only name parts of flowmaps"),
        "a builtin": (called("builtins:exec", source=f"open({marker!r}, 'w')"), "only name parts of flowmaps"),
        "a module of the stranger": (called("evil:Network"), "only name parts of flowmaps"),
        "a module of the stranger with a dot": (called("evil.Network"), "no part 'evil.Network'"),
        "a module of the stranger below flowmaps": (called("flowmaps.evil:Network"), "no part 'evil.Network'"),
        "torch's loader": (called("torch:load", f=run), "only name parts of flowmaps"),
        "torch's loader through a network": (called("networks.torch.load", f=run), "no part 'networks.torch.load'"),
        "a module through a module": (called("weight.torch"), "no part 'weight.torch'"),
        "a private function": (function("flowmaps.path.closed:_expm1_over"), "no part"),
        "a private class": (called("pretrained._Called", function=function("cli.main")), "no part"),
        "a private attribute of a public class": (called("networks.MLP.__init__"), "no part 'networks.MLP.__init__'"),
        "a method of a class": (called("networks.MLP.lipschitz", shape=2), "no part 'networks.MLP.lipschitz'"),
        "a class method that wraps": (called("integrations.diffusers.DiffusersNetwork.around", model=1), "no part"),
        "a function that writes": (called("files.write_text", path=marker, text="x"), "no part 'files.write_text'"),
        "a function that removes": (called("files.remove", path=run), "no part 'files.remove'"),
        "a loader of runs": (called("runs.load", run=run), "no part 'runs.load'"),
        "a loader of data": (called("data.load", name_or_path=run), "no part 'data.load'"),
        "a loader of pipelines": (called("integrations.diffusers.teacher", folder_or_pipeline=run), "no part"),
        "a class of diffusers that is no network": (
            called("integrations.diffusers.DiffusersNetwork", class_name="DiffusionPipeline", config={}, folder=run),
            "the class 'DiffusionPipeline' of diffusers",
        ),
        "a dtype that is a function": (
            called("integrations.diffusers.DiffusersNetwork", class_name="UNet2DModel", config={}, dtype="load"),
            "'load' is not a dtype",
        ),
        "a dtype of a tensor that is a function": (
            called("networks.InBasis", network=MLP, basis={"tensor": [2, 2], "dtype": "load"}), "'load' is not a dtype"
        ),
        "a function that trains": (called("training.train", flow=MLP), "no part 'training.train'"),
        "a trained network as a time": (
            {"type": "networks.MLP", "arguments": {"shape": 2, "times": function("networks.raw")}},
            "takes times as TimeConditioning, got the function networks.raw",
        ),
        "a function for a number": (
            {"type": "networks.MLP", "arguments": {"shape": function("networks.raw")}},
            "takes shape as int | tuple[int, ...], got the function networks.raw",
        ),
        "a class for a number": (
            {"type": "networks.MLP", "arguments": {"shape": 2, "width": called("networks.Fourier")}},
            "takes width as int, got a networks.Fourier",
        ),
        "a number for a function": (
            {"type": "networks.MLP", "arguments": {"shape": 2, "modulate": 3}}, "takes modulate as Callable"
        ),
        "a truth for a number": (called("networks.MLP", shape=2, width=True), "takes width as int, got True"),
        "a text for a number": (called("networks.MLP", shape=2, width="8"), "takes width as int, got '8'"),
        "an output for a network": (called("outputs.Endpoint"), "flow.network: FlowMap takes network as nn.Module"),
        "a function for a network": (function("outputs.average_velocity"), "FlowMap takes network as nn.Module"),
        "plain JSON for a network": ({"shape": 2}, "FlowMap takes network as nn.Module"),
        "no name": ({"type": None}, "only name parts of flowmaps"),
        "a name that is a list": ({"type": ["networks.MLP"]}, "only name parts of flowmaps"),
    }  # fmt: skip


NETWORKS = list(payloads("run", "marker"))


SOME = (
    "a pipeline with its own code, loaded as a depth", "the command line", "the main module", "a command of the system",
    "a module of the stranger", "a method of a class", "a private class", "a function that writes",
)  # fmt: skip


def refused(network, way, stranger):
    description, said = payloads(stranger.run, stranger.marker)[network]
    stranger.put(["flow", "network"], description)
    message = stranger.message(way)
    assert said in message and str(stranger.run / "config.json") in message and "\n" not in message


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_that_would_run_code_is_refused_in_one_sentence(network, stranger):
    refused(network, "load", stranger)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", SOME)
def test_it_is_refused_from_every_way_in(network, way, stranger):
    refused(network, way, stranger)


@pytest.mark.parametrize("entry", ["output", "path", "only_source", "only_target", "guidance"])
@pytest.mark.parametrize(
    "description",
    [
        function("cli.main"), called("cli.options.Train"), called("os:system", command="true"),
        function("networks.raw"), called("networks.Fourier"), MLP, "path.Linear", [1], {"a": 1},
    ],
    ids=str,
)  # fmt: skip
def test_other_parts_of_a_flow_map_are_no_way_in_either(entry, description, stranger):
    stranger.put(["flow", entry], description)
    message = stranger.message("load")
    assert f"flow.{entry}" in message and str(stranger.run / "config.json") in message and "\n" not in message


@pytest.mark.parametrize(
    "place", [["method", "terms"], ["training", "schedule"], ["notes", "extra"], ["data", "coupling"]]
)
def test_descriptions_that_are_never_built_are_read_past(place, stranger):
    """Methods and schedules are compared when a run goes on; they are not made from the file."""
    stranger.put(place, called("evil:Network"))
    assert isinstance(fm.load(stranger.run), fm.FlowMap)
    assert fm.experiments.sample(stranger.run, n=2).shape == (2, 2)


def test_a_network_of_ones_own_is_passed_and_not_named(trained):
    """The way for networks outside of flowmaps: the caller passes the network, and the file names nothing."""
    network = fm.networks.MLP(2, width=8, depth=2, classes=2, data_std=fm.load(trained).network.data_std)
    flow = fm.load(trained, network=network)
    assert flow.network is network
    assert fm.load(trained, network=fm.FlowMap(fm.networks.MLP(2, width=8, depth=2, classes=2))).network is not network


def test_a_described_network_of_ones_own_asks_for_it(stranger):
    stranger.put(["flow", "network"], {"unknown": {"type": "evil:Network", "arguments": {"x" * 10**4: "y" * 10**4}}})
    message = stranger.message("load")
    assert "pass network=" in message and "\n" not in message and len(message) < 1000


@pytest.mark.parametrize("name", ["__init__", "__globals__", "__builtins__", "path.__class__", "networks.MLP.forward"])
def test_attributes_of_known_things_are_out_of_reach(name):
    for kind in ("type", "function"):
        with pytest.raises(ValueError, match="no part"):
            build({kind: name})


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*)*x", ".*.*.*.*.*x", "(", "a{1,99999999999}", "(" * 10**4])
def test_a_pattern_of_layers_that_could_take_for_ever_is_refused(pattern, stranger):
    stranger.put(["flow", "network"], called("integrations.peft.Adapted", network=MLP, rank=1, targets=pattern))
    message = stranger.message("load")
    assert "targets" in message and "config.json" in message and "\n" not in message


def test_a_name_of_layers_is_compared_part_by_part(stranger):
    """As a regular expression, these stars would be tried in a number of ways that no computer counts."""
    layers = called("students.TimeLayers", embedding="*" * 40 + "!")
    stranger.put(["flow", "network"], student(places=layers))
    assert "has no part '****" in stranger.message("load")
    layers["arguments"]["embedding"] = "x" * 10**6
    stranger.put(["flow", "network"], student(places=layers))
    assert len(stranger.message("load")) < 5000


def test_names_are_looked_up_and_never_resolved(monkeypatch):
    """An attribute that appears on a public module is not reachable, even under a public name."""
    monkeypatch.setattr(fm.networks, "planted", fm.networks.gap, raising=False)
    with pytest.raises(ValueError, match="no part"):
        find("networks.planted")
    assert all(name.rpartition(".")[2].isidentifier() and "_Called" not in name for name in NAMES)


LONG = ("evaluate", "report", "to_onnx", "train --teacher", "distill", "compare --teacher", "$ evaluate", "$ report",
        "$ train --teacher", "$ distill", "to_diffusers")  # fmt: skip


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] * (way in LONG)) for way in WAYS])
def test_the_run_itself_is_taken_by_every_way(way, trained, tmp_path):
    """The refusals above come from what the stranger changed, not from the ways."""
    shutil.copytree(trained, tmp_path / "run")
    WAYS[way](tmp_path / "run", tmp_path / "out")
