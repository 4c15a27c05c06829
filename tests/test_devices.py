"""Noise and conditions go where the weights are, in their dtype; the meta device stands for a GPU."""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

import flowmaps as fm
from flowmaps import draws, experiments
from flowmaps.arguments import device_of
from flowmaps.cli import main
from flowmaps.distributed.processes import Processes, join
from flowmaps.evaluate import evaluate
from flowmaps.experiments import comparison_runs, sampling
from flowmaps.figures import anatomy
from flowmaps.training import accelerating
from tests.in_one import in_one

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8, "steps": 1}


class Seen(nn.Module):
    """A network that notes its inputs, and refuses those on another device or of another dtype."""

    def __init__(self, dtype=torch.float32, device="meta"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=dtype, device=device))
        self.seen = []

    def forward(self, x, s, t, label=None, scale=None):
        for one in (x, s, label, scale):
            assert one is None or one.device == self.weight.device
        self.seen.append([one.dtype for one in (x, label, scale) if one is not None])
        return x * self.weight


class Halving(nn.Module):
    def forward(self, x, s, t):
        return x / 2


NOISE, LABEL = torch.randn(6, 2, dtype=torch.float64), torch.arange(6)


@pytest.mark.parametrize("step", ["jump", "euler", "heun", "ancestral", "sde", "restart"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_noise_and_conditions_follow_the_weights(step, batch_size):
    flow = fm.FlowMap(Seen())
    condition = {"label": LABEL, "scale": torch.ones(6, dtype=torch.float64)}
    x = fm.sample(flow, NOISE, 2, step=step, condition=condition, batch_size=batch_size)
    assert x.is_meta and x.dtype == torch.float32 and x.shape == NOISE.shape
    assert all(dtypes == [torch.float32, torch.int64, torch.float32] for dtypes in flow.network.seen)


@pytest.mark.parametrize(
    "call",
    [
        lambda flow: fm.trajectory(flow, NOISE, 2, condition=LABEL)[0],
        lambda flow: fm.invert(flow, NOISE, condition=LABEL),
        lambda flow: fm.interpolate(flow, NOISE, NOISE, n=2, condition=LABEL),
    ],
)
def test_the_other_samplers_too(call):
    assert call(fm.FlowMap(Seen())).is_meta


@pytest.mark.parametrize(
    ("weights", "noise", "expected"),
    [
        (torch.float32, torch.float64, torch.float32),
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.float32),  # a network may compute its states in float32
    ],
)
def test_noise_is_cast_but_not_to_half_precision(weights, noise, expected):
    flow = fm.FlowMap(Seen(weights, "cpu"))
    assert fm.sample(flow, NOISE.to(noise)).dtype == expected


def test_a_model_without_weights_leaves_the_noise_alone():
    exact = fm.exact.Gaussian([0.0, 0.0], 1.0)
    assert fm.sample(exact, NOISE).dtype == torch.float64
    assert fm.sample(fm.FlowMap(Halving()), NOISE).dtype == torch.float64


def test_noise_is_made_for_a_flow_map():
    flow = fm.FlowMap(fm.networks.MLP((1, 4, 4), width=8, depth=1).double(), path=fm.path.VarianceExploding(80.0))
    x = fm.noise(flow, 5, seed=3)
    expected = 80 * torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    assert x.dtype == torch.float64 and torch.equal(x, expected.double())
    before = torch.get_rng_state()
    assert torch.equal(fm.noise(flow, 5, seed=3), x) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(fm.noise(flow, 5), fm.noise(flow, 5))
    seen = fm.FlowMap(Seen())
    assert fm.noise(seen, 3, shape=(2, 5)).is_meta and fm.noise(seen, 3, shape=7).shape == (3, 7)
    with pytest.raises(ValueError, match=r"pass shape="):
        fm.noise(seen, 3)
    seen.trained = fm.TrainedSpec(shape=(4,))
    assert fm.noise(seen, 3).shape == fm.noise(seen.given(label=1), 3).shape == (3, 4)
    assert fm.noise(fm.exact.Gaussian([0.0, 1.0, 2.0], 1.0), 4).shape == (4, 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("devices") / "run"
    data = fm.data.load("two_moons", labels=True)
    fm.fit(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=2)), "lsd", data, out=out, **QUIET)
    return out


def test_a_command_samples_on_its_device(run, monkeypatch, tmp_path):
    seen = []

    def sample_(bound, x, times, step, seed, batch_size, watch):
        seen.append((x.device.type, bound(slice(2)).condition["label"].device.type))
        return torch.zeros(x.shape)

    monkeypatch.setattr(sampling, "device_of", torch.device)
    monkeypatch.setattr(sampling.sampling, "sample_", sample_)
    for device in ("meta", "cpu"):
        assert main(["sample", str(run), "--device", device, "-n", "4", "-o", str(tmp_path / "x.npy")]) == 0
    assert seen == [("meta", "meta"), ("cpu", "cpu")]


def test_evaluate_has_a_device(run, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(experiments, "evaluate", lambda *_, device, **__: seen.append(device) or {})
    for options in ([], ["--device", "cuda:1"]):
        assert main(["evaluate", str(run), "--json", *options]) == 0
    assert seen == ["cpu", "cuda:1"]


@pytest.fixture
def meta_by_default(monkeypatch):
    """Accelerate takes the meta device, as it takes a GPU that is there; it keeps its choice for a whole program."""
    AcceleratorState._reset_state(True)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    yield
    AcceleratorState._reset_state(True)


def fitted(**settings):
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    return fm.fit(flow, "lsd", "two_moons", **QUIET, **settings)


SHORT = {"steps": 2, "batch_size": 8, "progress_bar": False}
KEPT = {**SHORT, "trackers": (), "sample_every": 0}
TRAININGS = {
    "fit": lambda out, run, **more: fitted(out=out, **more),
    "train": lambda out, run, **more: experiments.train("two_moons", method="lsd", width=8, out=out, **KEPT, **more),
    "teacher": lambda out, run, **more: experiments.train(
        "two_moons", method="pid", teacher=run, width=8, out=out, **KEPT, **more
    ),
    "reflow": lambda out, run, **more: experiments.train(
        "two_moons", method="flow_matching", reflow=run, couplings=64, width=8, out=out, **KEPT, **more
    ),
    "distill": lambda out, run, **more: experiments.distill(run, method="lmd", out=out, **KEPT, **more),
    "posttrain": lambda out, run, **more: experiments.posttrain(
        run, reward=lambda x0: x0.sum(1), n=16, out=out, **KEPT, **more
    ),
    "dry run": lambda out, run, **more: experiments.distill(run, method="lmd", dry_run=True, **SHORT, **more),
    "compare": lambda out, run, **more: experiments.compare("gaussian", ["lsd"], width=8, out=out, **SHORT, **more),
}


@pytest.fixture
def quick(monkeypatch):
    """Comparisons evaluate few samples."""
    few = {"n": 32, "draws": 2, "jumps": (1,), "ode_steps": (2,)}
    monkeypatch.setattr(comparison_runs, "evaluate", lambda *args, **how: evaluate(*args, **{**how, **few}))


@pytest.mark.parametrize("name", TRAININGS)
def test_training_runs_on_the_device_that_is_asked_for(name, run, tmp_path, meta_by_default, quick):
    TRAININGS[name](tmp_path / "out", run, device="cpu")
    for weights in (tmp_path / "out").rglob("flow.safetensors"):
        assert all(weight.isfinite().all() for weight in load_file(weights).values())


def test_without_a_device_training_runs_where_accelerate_says(meta_by_default):
    flow = fm.FlowMap(Seen(device="cpu"))
    with pytest.raises((RuntimeError, NotImplementedError)):  # the meta device has no numbers
        fm.fit(flow, "flow_matching", "two_moons", **QUIET)
    assert flow.like.is_meta
    AcceleratorState._reset_state(True)
    assert fm.fit(fm.FlowMap(Seen(device="cpu")), "flow_matching", "two_moons", device="cpu", **QUIET).loss.value >= 0


WRONG = [
    ("gpu", "must be a device of torch, got 'gpu'.*has cpu"),
    ("cpuu", "did you mean cpu"),
    ("cuda:x", "must be a device of torch, got 'cuda:x'"),
    ("meta", "must have memory, and meta has none"),
    ("cuda:99", "there is no `device=cuda:99`.*has cpu"),
    ("xpu", "there is no `device=xpu`.*has cpu.*leave it out"),
    (0, "must be a name"),
]


@pytest.mark.parametrize("name", [*TRAININGS, "sample", "steer", "evaluate", "report"])
@in_one("device, match", WRONG)
def test_devices_that_are_not_there_are_refused_before_anything_is_made(name, device, match, run, tmp_path):
    calls = TRAININGS | {
        "sample": lambda out, run, device: experiments.sample(run, device=device),
        "steer": lambda out, run, device: experiments.steer(run, reward=lambda x0: x0[:, 0], device=device),
        "evaluate": lambda out, run, device: experiments.evaluate(run, device=device),
        "report": lambda out, run, device: experiments.report(run, device=device),
    }
    with pytest.raises((TypeError, ValueError), match=match):
        calls[name](tmp_path / "out", run, device=device)
    assert not (tmp_path / "out").exists()


def test_a_build_of_torch_without_cuda_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr("flowmaps.arguments.devices.devices_here", lambda: ["cpu"])
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"is a build without CUDA, so install torch for the GPU, or leave it out"):
            device_of("cuda")


@pytest.mark.parametrize("command", ["train", "distill", "posttrain", "compare", "sample", "evaluate", "report"])
def test_every_command_that_computes_has_the_option(command, run, capsys):
    first = "two_moons" if command in ("train", "compare") else str(run)
    needed = ["--reward", "label:7"] * (command == "posttrain")
    assert main([command, first, "--device", "gpu", *needed]) == 2
    assert "--device must be a device of torch, got 'gpu'" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--device" in capsys.readouterr().out


def test_a_run_goes_on_on_another_device(run, tmp_path, monkeypatch):
    """The device is no setting that must be equal: weights, optimizers and numbers go on."""
    for name, first in (("whole", None), ("parts", "cpu")):
        torch.manual_seed(0)
        settings = {**QUIET, "steps": 4, "out": tmp_path / name}
        flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
        for state in fm.train(flow, "lsd", "two_moons", device=first, **settings):
            if name == "parts" and state.step == 2:
                break
    assert "device" not in json.loads((tmp_path / "parts" / "config.json").read_text())["training"]
    again = fm.fit(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)), "lsd", "two_moons", resume=True, **settings)
    whole, parts = (fm.load(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert again.step == 4 and all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.slow
def test_a_comparison_goes_on_on_another_device(tmp_path, quick):
    first = experiments.compare("gaussian", ["lsd"], width=8, out=tmp_path / "c", **SHORT)
    again = experiments.compare("gaussian", ["lsd", "imf"], width=8, out=tmp_path / "c", device="cpu", **SHORT)
    assert set(first.runs) < set(again.runs) == {"lsd", "imf"}


@pytest.mark.parametrize(
    ("device", "there", "count", "own", "expected"),
    [
        (None, "cuda:1", 2, False, "cuda:1"),
        ("cuda", "cuda:1", 2, False, "cuda:1"),
        ("cpu", "cpu", 2, False, "cpu"),
        ("cuda:0", "cuda:0", 2, False, r"2 processes train together, .*this one on cuda:0.*CUDA_VISIBLE_DEVICES"),
        ("cpu", "cuda:0", 2, False, "2 processes train together.*start all processes with `device=cpu`"),
        ("cuda:1", "cuda:0", 1, False, "cuda:1"),
        ("cpu", "cuda:0", 1, False, "cpu"),
        ("cuda", "cuda:0", 1, True, "cuda:0"),
        ("cuda:1", "cuda:0", 1, True, "the accelerator is on cuda:0, and `device=cuda:1` is another"),
    ],
)
def test_several_processes_and_accelerators_of_your_own(device, there, count, own, expected, monkeypatch):
    monkeypatch.setattr(accelerating, "device_of", lambda name: torch.device(name))
    accelerator = SimpleNamespace(device=torch.device(there))
    plan = SimpleNamespace(device=device, accelerator=accelerator if own else None)
    if len(expected) < 8:
        assert str(accelerating.device_for(plan, accelerator, Processes(0, count))) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            accelerating.device_for(plan, accelerator, Processes(0, count))


@pytest.mark.parametrize(("world", "wanted", "expected"), [("1", True, False), ("2", True, True), ("2", False, False)])
def test_processes_on_cpus_beside_a_gpu(world, wanted, expected, monkeypatch):
    """A single process takes its device itself; several join on CPUs only if that is asked for."""
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert join(1.0, wanted) is expected


def random_steps():
    flow = fm.exact.Gaussian([0.0, 0.0], 1.0)
    return fm.sample(flow, NOISE, 4, step=fm.steps.sde(), seed=3)


def classifier():
    return fm.evaluate.train_classifier(fm.data.load("digits"), steps=1).features(torch.zeros(1, 1, 8, 8))


def times_of_a_term():
    method = fm.methods.meanflow()
    return anatomy.times_at(method.terms[0], 0.0, torch.zeros(4, 2), seed=3)[0]


@pytest.mark.parametrize("work", [random_steps, classifier, times_of_a_term])
def test_a_seed_resets_the_generators_of_its_own_device_alone(work, monkeypatch):
    """`torch.manual_seed` resets the one of every GPU, also of those that only a loop of the user draws from."""
    for module in (torch.cuda, torch.xpu, torch.mps):
        name = "manual_seed" if module is torch.mps else "manual_seed_all"
        monkeypatch.setattr(module, name, lambda seed: pytest.fail("the generators of other devices were reset"))
    assert torch.equal(work(), work())


class Numbers:
    """A generator that notes its seeds."""

    def __init__(self):
        self.seeds = ["of the user"]

    def get_state(self):
        return self.seeds[-1]

    def manual_seed(self, seed):
        self.seeds.append(seed)

    set_state = manual_seed


@pytest.mark.parametrize(("device", "seeded"), [("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_the_generator_of_a_gpu_is_seeded_and_goes_on_as_before(device, seeded, monkeypatch):
    found = [Numbers(), Numbers()]
    monkeypatch.setattr(torch.cuda, "default_generators", found)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    before = torch.get_rng_state()
    with draws.seeded_by(torch.device(device), 3):
        assert [one.seeds[-1] for one in found] == [3 if index == seeded else "of the user" for index in (0, 1)]
        assert torch.initial_seed() == 3
    assert [one.seeds[-1] for one in found] == ["of the user"] * 2 and torch.equal(torch.get_rng_state(), before)
