"""Steered samples of a run, compared with closed forms: a run whose flow map is exactly the one of a Gaussian."""

import numpy as np
import pytest
import torch
from PIL import Image

import flowmaps as fm
from flowmaps import experiments
from flowmaps.evaluate.features import load_classifier
from flowmaps.experiments import steer
from flowmaps.experiments.steering_methods import METHODS, abilities

TINY = {"steps": 1, "lr": 1e-30, "width": 8, "depth": 1, "batch_size": 8, "sample_every": 0}
QUIET = {"progress_bar": False, "trackers": ()}
SIDE = 4


@pytest.fixture(autouse=True)
def _unrecorded(monkeypatch):
    """No picture is drawn for the record; tests of files do so."""
    monkeypatch.setattr("flowmaps.experiments.steered_sampling.keep", lambda *_: None)


def gaussian_run(data, out, **options):
    """A run of no training: its network is 0, so its flow map is the exact one of the Gaussian in its output."""
    run = experiments.train(data, out=out, output="gaussian-skip", **TINY, **QUIET, **options).folder
    flow = fm.load(run)
    x, told = torch.randn(3, *flow.output.mean.shape), {"label": torch.arange(3)} if flow.trained.classes else {}
    assert torch.allclose(flow.network(x, torch.ones(3), torch.zeros(3), **told), torch.zeros(()), atol=1e-6)
    return run


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """A run on smooth images (1, 4, 4)."""
    folder = tmp_path_factory.mktemp("runs")
    generator = torch.Generator().manual_seed(0)
    place = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).double()
    covariance = 0.1 * torch.exp(-torch.cdist(place, place) / 3) + 0.01 * torch.eye(SIDE**2)
    rows = torch.randn(400, SIDE**2, generator=generator).double() @ torch.linalg.cholesky(covariance).T
    np.save(
        folder / "smooth.npy", (rows + 0.2 * place[:, 0] / SIDE).clamp(-1, 1).float().reshape(-1, 1, SIDE, SIDE).numpy()
    )
    return gaussian_run(folder / "smooth.npy", folder / "run")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on digits without labels."""
    return gaussian_run("digits", tmp_path_factory.mktemp("runs") / "digits", labels=False)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Runs on digits with labels: one without the null class, one with it, and one of its velocity alone."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "all": gaussian_run("digits", folder / "all"),
        "null": gaussian_run("digits", folder / "null", label_dropout=0.2),
        "velocity": gaussian_run("digits", folder / "velocity", method="flow_matching", label_dropout=0.2),
    }


HOLE = torch.zeros(SIDE, SIDE, dtype=torch.bool)
HOLE[2:] = True
MEASUREMENTS = {
    "inpaint": (HOLE, "held-out:3"),
    "deblur": (0.6, "held-out:3"),
    "downsample": (2, "held-out:3"),
}


def posterior(run, measurement):
    """Mean, covariance and evidence of the Gaussian of a run, given a measurement."""
    output = fm.load(run).output
    mean, basis = output.mean.flatten().double(), output.basis.double()
    covariance = basis @ torch.diag(output.variances.double()) @ basis.T
    likelihood = measurement.likelihood
    A = likelihood.A(torch.eye(SIDE**2).double().reshape(-1, 1, SIDE, SIDE)).flatten(1).T
    y, noise = likelihood.y.flatten().double(), likelihood.std**2 * torch.eye(len(A)).double()
    whole = A @ covariance @ A.T + noise
    gain = torch.linalg.solve(whole, A @ covariance).T
    evidence = torch.distributions.MultivariateNormal(A @ mean, whole).log_prob(y)
    return mean + gain @ (y - A @ mean), covariance - gain @ A @ covariance, float(evidence)


def errors(out, run):
    """The largest error of the mean in standard deviations, the mean error of the spread, the error of log Z."""
    mean, covariance, evidence = posterior(run, out.measurement)
    std = covariance.diagonal().sqrt()
    log_z = out.numbers.get("log_z", evidence)
    spread = (out.std.flatten() / std).mean().log()
    return float(((out.mean.flatten() - mean) / std).abs().max()), abs(float(spread)), abs(log_z - evidence)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_particles_have_the_posterior_of_a_gaussian(name, smooth):
    """600 particles, 50 steps. Standard errors of a mean .05 times the square root of the resamplings, of log Z .07."""
    out = steer(smooth, **{name: MEASUREMENTS[name]}, noise=0.3, particles=600, seed=1)
    mean, spread, log_z = errors(out, smooth)
    assert mean < 0.3 and spread < 0.1 and log_z < 0.25
    assert out.numbers["ess"] > 0.35 and out.x.shape == (600, 1, SIDE, SIDE)
    again = out.x.std(0, correction=0)  # samples of equal weight have the law of the weighted particles
    assert ((out.x.mean(0) - out.mean) / out.std).abs().max() < 0.1 and (again / out.std - 1).abs().max() < 0.1
    assert out.numbers["residual"] == pytest.approx(
        float(out.measurement.likelihood.residual(out.x).std()) / 0.3, abs=0.1
    )


@pytest.mark.parametrize(
    ("method", "is_right"),
    [("tds", True), ("fmtt", True), ("tilt", True), ("dps", True), ("cm_solver", False), ("fmrg", False)],
)
def test_which_methods_have_the_posterior(method, is_right, smooth):
    """The same check fails for methods that maximise: their samples fit the noise, and their spread is too small."""
    size = {"particles": 600} if METHODS[method].weighs else {"n": 300}
    out = steer(smooth, inpaint=MEASUREMENTS["inpaint"], noise=0.3, method=method, seed=1, **size)
    mean, spread, log_z = errors(out, smooth)
    assert (mean < 0.6 and spread < 0.15 and log_z < 0.9) == is_right
    assert (out.numbers["residual"] > 0.7) == is_right


def test_the_best_of_some_and_universal_guidance(smooth):
    told = {"inpaint": MEASUREMENTS["inpaint"], "noise": 0.3, "seed": 1}
    out = steer(smooth, method="best_of", particles=32, n=64, **told)
    assert out.x.shape == (64, 1, SIDE, SIDE) and out.steps == 1 and errors(out, smooth)[2] < 0.3
    plain = fm.sample(fm.load(smooth), fm.noise(fm.load(smooth), 64, seed=1))
    reward = out.measurement.likelihood
    assert out.numbers["reward"] > float(reward(plain).mean()) + 2
    assert steer(smooth, method="universal", n=64, **told).numbers["reward"] > float(reward(plain).mean()) + 2


@pytest.mark.slow
def test_a_class_has_the_evidence_that_free_samples_give(digits):
    """log Z of label:7 is the logarithm of the share of sevens: here of 4096 free samples, standard error .06."""
    free = experiments.sample(digits, n=4096, seed=5)
    classifier = (
        load_classifier(digits / "classifier.safetensors") if (digits / "classifier.safetensors").is_file() else None
    )
    out = steer(digits, reward="label:7", particles=200, seed=2)
    classifier = classifier or load_classifier(digits / "classifier.safetensors")
    share = classifier(free).log_softmax(1)[:, 7].exp().mean().log()
    assert out.numbers["log_z"] == pytest.approx(float(share), abs=0.4)
    assert out.numbers["reward"] > -0.5 and out.measurement is None
    assert float((classifier(out.x).argmax(1) == 7).double().mean()) > 0.8
    assert set(out.numbers) == {"reward", "spread", "ess", "log_z", "kl"}


def test_a_function_steers_and_zero_leaves_the_samples_alone(digits):
    bright = lambda x0: 0.5 * x0.flatten(1).sum(1)  # noqa: E731
    free = experiments.sample(digits, n=64, seed=3)
    assert steer(digits, reward=bright, seed=3).x.mean() > free.mean() + 0.05
    out = steer(digits, reward=nothing, method="tilt", n=64, seed=3, steps=20)
    wanted = experiments.sample(digits, n=64, seed=3, steps=20, step="heun")
    torch.testing.assert_close(out.x, wanted)


def test_the_same_seed_gives_the_same_samples(smooth):
    one, two = (steer(smooth, downsample=(2, "held-out:0"), seed=4, particles=16, steps=5) for _ in range(2))
    assert torch.equal(one.x, two.x) and one.numbers == two.numbers
    other = steer(smooth, downsample=(2, "held-out:0"), seed=5, particles=16, steps=5)
    assert not torch.equal(one.x, other.x) and not torch.equal(one.measurement.picture, other.measurement.picture)


def test_the_number_of_samples(smooth):
    told = {"downsample": (2, "held-out:0"), "steps": 5}
    assert len(steer(smooth, **told, particles=16, n=5).x) == 5 and len(steer(smooth, **told, particles=16).x) == 16
    assert len(steer(smooth, **told, method="tilt").x) == 64
    with pytest.raises(ValueError, match="17 samples need at least as many `particles`, and there are 16"):
        steer(smooth, **told, particles=16, n=17)
    with pytest.raises(ValueError, match="tilt draws each sample by itself"):
        steer(smooth, **told, particles=16, method="tilt")


def seen_labels(monkeypatch, run, **options):
    """The labels with which a method is called."""
    tasks = []
    name = options.get("method", "particles")
    draw = METHODS[name].draw
    object.__setattr__(METHODS[name], "draw", lambda task: (tasks.append(task), draw(task))[1])
    try:
        steer(run, inpaint=HALF, steps=2, noise=3.0, **options)
    finally:
        object.__setattr__(METHODS[name], "draw", draw)
    return tasks[0].condition.get("label"), tasks[0].joint


HALF = (torch.tensor([[0] * 8] * 4 + [[1] * 8] * 4), "held-out:0")


def test_classes_of_steered_samples(classes, monkeypatch):
    """A given class; else no class where the run knows the null class; else the particles have all classes."""
    label, joint = seen_labels(monkeypatch, classes["all"], particles=20)
    assert sorted(label.tolist()) == sorted(list(range(10)) * 2) and joint
    label, joint = seen_labels(monkeypatch, classes["all"], particles=20, label=3)
    assert label.tolist() == [3] * 20 and not joint
    label, joint = seen_labels(monkeypatch, classes["null"], particles=20)
    assert label.tolist() == [10] * 20 and not joint
    label, joint = seen_labels(monkeypatch, classes["null"], particles=20, label=3, guidance=2.0)
    assert label.tolist() == [3] * 20 and not joint
    label, joint = seen_labels(monkeypatch, classes["null"], particles=20, guidance=2.0)
    assert sorted(label.tolist()) == sorted(list(range(10)) * 2) and joint
    with pytest.raises(ValueError, match="9 particles are fewer than the 10 classes"):
        steer(classes["all"], inpaint=HALF, particles=9)
    with pytest.raises(ValueError, match="weighs the classes by particles alone"):
        steer(classes["all"], inpaint=HALF, method="tilt")


@pytest.mark.parametrize(
    ("method", "step", "guidance"),
    [("tilt", "heun", None), ("tilt", "heun", 3.0), ("universal", "euler", 3.0), ("fmrg", "jump", None)],
)
def test_classes_and_guidance_reach_the_network(method, step, guidance, told_apart):
    """Without a reward, steered samples are the free ones of the class and the scale."""
    told = {"label": 3, "guidance": guidance, "steps": 4, "seed": 6, "n": 8}
    out = steer(told_apart, reward=nothing, method=method, **told)
    torch.testing.assert_close(out.x, experiments.sample(told_apart, step=step, **told), atol=1e-5, rtol=1e-4)
    for change in ({"label": 4}, {"guidance": 2.0}):
        if change.keys() <= {"label"} or guidance is not None:
            assert (out.x - experiments.sample(told_apart, step=step, **told | change)).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["particles", "fmtt", "best_of"])
def test_classes_reach_the_network_of_particles(method, told_apart):
    told = {"reward": nothing, "method": method, "steps": 2, "particles": 4, "n": 4, "seed": 6}
    one, other = (steer(told_apart, label=label, **told).x for label in (3, 4))
    assert (one - other).abs().max() > 1e-3


def nothing(x0):
    """A reward that is 0."""
    return 0 * x0.flatten(1).sum(1)


@pytest.fixture(scope="module")
def told_apart(tmp_path_factory):
    """A run whose network has learned a little, so that classes and scales differ."""
    options = {**TINY, "lr": 0.1, "steps": 5, "method": "imf", "label_dropout": 0.2}
    return experiments.train("digits", out=tmp_path_factory.mktemp("runs") / "run", **options, **QUIET).folder


def test_wrong_methods_are_refused_with_the_right_ones(classes, digits, tmp_path):
    with pytest.raises(
        ValueError, match="fmtt needs jumps to data .* flow map .* a velocity alone: take particles, tds"
    ):
        steer(classes["velocity"], inpaint=HALF, method="fmtt")
    with pytest.raises(ValueError, match="fmrg needs jumps between any times, and the guided velocity"):
        steer(classes["null"], inpaint=HALF, method="fmrg", guidance=2.0)
    with pytest.raises(ValueError, match="dps is for measurements, such as --inpaint, and not for a reward"):
        steer(digits, reward="label:7", method="dps")
    run = experiments.train("digits", method="ect", out=tmp_path / "ect", labels=False, **TINY, **QUIET).folder
    with pytest.raises(ValueError, match="tilt needs a velocity, and .* jumps to data .* alone: take fmtt"):
        steer(run, inpaint=HALF, method="tilt")
    assert steer(run, inpaint=HALF, steps=3, noise=3.0).method == "fmtt"
    run = experiments.train("digits", method="pid", teacher=digits, out=tmp_path / "pid", labels=False, **TINY, **QUIET)
    assert abilities(fm.load(run)) == {"samples"}
    out = steer(run, inpaint=HALF, particles=4, n=6)
    assert out.method == "best_of" and out.x.shape == (6, 1, 8, 8)


def grey(values, path):
    """Write a grey picture."""
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def test_pictures_are_measurements(digits, tmp_path):
    """Of a picture the values are taken as they are, on the scale of the data; a hole is ignored."""
    pixels = np.arange(64).reshape(8, 8) * 4
    mask = np.zeros((8, 8))
    mask[4:] = 255
    mask, image = grey(mask, tmp_path / "mask.png"), grey(pixels, tmp_path / "image.png")
    wanted = torch.tensor(pixels / 127.5 - 1).float()
    told = {"steps": 2, "particles": 8, "noise": 3.0}
    out = steer(digits, inpaint=(mask, image), **told).measurement
    assert torch.allclose(out.likelihood.y[0], wanted[:4].flatten(), atol=1e-6) and out.truth is None
    assert bool(out.picture[0, 4:].isnan().all()) and torch.allclose(out.picture[0, :4], wanted[:4], atol=1e-6)
    assert "32 of 64 pixels are known (black in the mask), 32 filled in" in out.what
    pixels[4:] = 7
    again = steer(digits, inpaint=(mask, grey(pixels, tmp_path / "other.png")), **told).measurement
    assert torch.equal(again.likelihood.y, out.likelihood.y)
    assert torch.allclose(steer(digits, deblur=(1.0, image), **told).measurement.likelihood.y[0], wanted, atol=1e-6)
    small = grey(pixels[:4, :4], tmp_path / "small.png")
    out = steer(digits, downsample=(2, small), **told).measurement
    assert torch.allclose(out.likelihood.y[0], wanted[:4, :4], atol=1e-6) and out.truth is None
    said = []
    out = steer(digits, downsample=(2, image), **{**told, "noise": 0.05}, say=said.append).measurement
    assert "has the size of the data, 8 x 8, and is made small: 4 x 4" in said[0]
    assert torch.allclose(out.truth[0], wanted, atol=1e-6)
    means = wanted.reshape(4, 2, 4, 2).mean((1, 3))
    assert 0 < (out.likelihood.y[0] - means).abs().max() < 0.25


def test_a_picture_of_16_bits_has_the_range_of_the_data(tmp_path):
    (tmp_path / "deep").mkdir()
    for k in range(20):
        Image.fromarray(np.full((4, 4), 200 * k + 100, np.uint16)).save(tmp_path / "deep" / f"{k}.png")
    run = gaussian_run(tmp_path / "deep", tmp_path / "run", data_args={"value_range": (0, 4000)})
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "x.png")
    out = steer(run, deblur=(0.5, tmp_path / "x.png"), steps=2, particles=8, noise=3.0)
    assert torch.allclose(out.measurement.picture, torch.tensor(-0.5))


def test_a_held_out_image_is_measured_with_noise(digits):
    told = {"steps": 2, "particles": 8, "noise": 0.4}
    out = steer(digits, deblur=(1.0, "held-out:2"), **told)
    truth = fm.data.load("digits").held_out(5).x0[2]
    assert torch.equal(out.measurement.truth, truth) and "psnr" in out.numbers
    residual = out.measurement.likelihood.residual(truth[None])
    assert 0.25 < float(residual.std()) < 0.55
    flow = fm.load(digits)
    noises = fm.noise(flow, 8, seed=0).flatten(1)
    assert (noises @ residual[0] / noises.norm(dim=1) / residual.norm()).abs().max() < 0.5  # other random numbers


def test_rgb_pictures(tmp_path):
    """Grey pictures become colours; colours of grey data are refused."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "colours.npy", generator.uniform(-1, 1, (40, 3, 4, 4)).astype(np.float32))
    run = gaussian_run(tmp_path / "colours.npy", tmp_path / "run")
    out = steer(run, deblur=(0.5, grey(np.full((4, 4), 255), tmp_path / "w.png")), steps=2, particles=8, noise=3.0)
    assert out.measurement.picture.shape == (3, 4, 4) and torch.equal(out.measurement.picture, torch.ones(3, 4, 4))
    out = steer(run, downsample=(4, "held-out:0"), steps=2, particles=8, out=tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size[0] > 100 and out.measurement.picture.shape == (3, 1, 1)
