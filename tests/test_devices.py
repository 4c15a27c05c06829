"""Noise and conditions go where the weights are, in their dtype; the meta device stands for a GPU."""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import draws, experiments
from flowmaps.cli import main
from flowmaps.experiments import sampling
from flowmaps.figures import anatomy

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

    def sample_(bound, x, times, step, seed, batch_size):
        seen.append((x.device.type, bound(slice(2)).condition["label"].device.type))
        return torch.zeros(x.shape)

    monkeypatch.setattr(sampling.sampling, "sample_", sample_)
    for device in ("meta", "cpu"):
        assert main(["sample", str(run), "--device", device, "-n", "4", "-o", str(tmp_path / "x.npy")]) == 0
    assert seen == [("meta", "meta"), ("cpu", "cpu")]
    with pytest.raises(ValueError, match="`device` must be one that this torch has"):
        experiments.sample(run, device="nowhere")


def test_evaluate_has_a_device(run, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(experiments, "evaluate", lambda *_, device, **__: seen.append(device) or {})
    for options in ([], ["--device", "cuda:1"]):
        assert main(["evaluate", str(run), "--json", *options]) == 0
    assert seen == ["cpu", "cuda:1"]


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
