"""What the README and the examples show must run."""

import math
import re
import runpy
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main, parse
from flowmaps.data.toys import eight_gaussians
from flowmaps.evaluate import size
from tests.small import few_samples

ROOT = Path(__file__).parent.parent


def test_the_ten_lines_of_the_readme_run():
    _, code = blocks_of_the_readme()
    assert "steps=2000" in code
    names = {}
    exec(code.replace("steps=2000", "steps=3"), names)
    assert names["one_jump"].shape == names["ode"].shape == names["noise"].shape


def blocks_of_the_readme():
    """The lines about texts, and the ten lines."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def test_the_lines_about_texts_run(tmp_path, monkeypatch, capsys):
    """On a small text, with a small network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bible.txt").write_text("in the beginning was the word " * 20)
    code, _ = blocks_of_the_readme()
    assert "steps=5000" in code and "data.shape[0])" in code
    small = code.replace("steps=5000", "steps=3").replace("data.shape[0])", "data.shape[0], 16, 1, 2)")
    exec(small, {"fm": fm})
    assert capsys.readouterr().out.startswith("['")


@pytest.mark.slow
def test_the_lines_for_the_shell_run_in_their_order(tmp_path, monkeypatch, capsys):
    """As they stand, but for short training and few rows; the lines of docs/install.md run in a shell."""
    text = (ROOT / "README.md").read_text().partition("From the shell:")[2]
    lines = re.search(r"```sh\n(.*?)```", text, flags=re.DOTALL)[1].splitlines()
    assert len(lines) >= 8
    short = {"--steps 2000": "--steps 20", "--budget 2m": "--budget 0.5s", "likelihood runs/digits": "\\g<0> -n 2"}
    assert all(any(usual in line for line in lines) for usual in short)
    monkeypatch.chdir(tmp_path)
    few_samples(monkeypatch)
    monkeypatch.setattr(size, "FULL", replace(size.FULL, ode_steps=(16,), n=64, draws=2))
    monkeypatch.setattr(size, "QUICK", replace(size.QUICK, n=64, draws=2))
    for line in lines:
        for usual, other in short.items():
            line = re.sub(usual, other, line)
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert (tmp_path / "grid.png").stat().st_size > 1000 and "eulerian" in capsys.readouterr().out
    assert (tmp_path / "runs" / "digits" / "report.html").exists()
    assert (tmp_path / "runs" / "checkerboard-compare" / "report.html").exists()


def test_every_line_for_the_shell_is_one_command():
    """And the first block is the installation, from a clone."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in found if language in ("", "sh")]
    assert blocks[0].startswith("pip install .")
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("flowmaps")]
    assert len(lines) >= 9 and all(line.count("flowmaps ") == 1 for line in lines)
    for line in lines:
        parse(shlex.split(line)[1:])


@pytest.mark.slow
def test_the_demo_runs_and_runs_again(tmp_path, monkeypatch, capsys):
    """The second time everything is there: nothing is trained or measured again. (Few samples are measured here.)"""
    out = tmp_path / "demo"
    monkeypatch.setattr(size, "FULL", replace(size.FULL, ode_steps=(4,), n=64, draws=2))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--seconds", "0.5", "--out", str(out)])
    for _ in range(2):
        runpy.run_path(str(ROOT / "examples/demo.py"), run_name="__main__")
        assert "jump" in capsys.readouterr().out
    assert (out / "evaluation.json").exists() and (out / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize("name", ["checkerboard", "digits", "digits_parts"])
def test_benchmarks_can_be_asked_what_they_do(name, monkeypatch):
    module = runpy.run_path(str(ROOT / f"benchmarks/{name}.py"), run_name="benchmark")
    assert callable(module["main"]) and f"python -m benchmarks.{name}" in module["__doc__"]


EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """example(name, steps): the numbers that an example returns; its picture must be there and be no blank."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(name, steps):
        torch.manual_seed(0)
        out = tmp_path / f"{name}.png"
        numbers = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](out, steps)
        assert out.stat().st_size > 20_000
        assert all(math.isfinite(number) for number in numbers.values())
        return numbers

    return run


@pytest.mark.slow
def test_paths_of_both_samplers_have_the_exact_marginals(example):
    found = example("01_paths", 200)
    count = 20_000
    for sampler in ("Stochastic: ancestral", "Deterministic: ODE"):
        positive, deviation = found[f"P(x_0 > 0), {sampler}"], found[f"standard deviation of x_0.5, {sampler}"]
        assert abs(positive - 0.6) < 4 * (0.24 / count) ** 0.5
        assert abs(deviation - found["standard deviation of x_0.5, exact"]) < 4 * deviation / (2 * count) ** 0.5
    assert found["paths of the ODE that cross"] == 0


@pytest.mark.slow
def test_four_views_of_the_flow_map_agree(example):
    found = example("02_flow_map", 32)
    for name in ("F(x, s, t) - [x + (t - s) V(x, s, t)]", "v(x, s) - V(x, s, s)", "f(x, s) - [x - s v(x, s)]"):
        assert abs(found[name]) < 1e-12
    assert abs(found["F(F(x, s, t), t, s) - x, there and back"]) < 1e-8
    assert found["error of jumps, the largest"] < 1e-8
    assert found["Euler: error at half the steps / error"] == pytest.approx(2, rel=0.15)
    assert found["Heun: error at half the steps / error"] == pytest.approx(4, rel=0.15)


@pytest.mark.slow
def test_residuals_vanish_at_the_exact_map_and_grow_in_proportion(example):
    found = example("03_consistency_rules", 5)
    for rule in ("compositional", "Lagrangian", "Eulerian"):
        assert found[f"{rule} residual at the exact map"] < 1e-8
        assert found[f"{rule} residual, map bent by 0.1 / by 0.05"] == pytest.approx(2, rel=0.02)


@pytest.mark.slow
def test_derivatives_have_their_order_and_their_cost(example):
    found = example("04_derivatives", 3)
    assert found["error of the JVP"] < 1e-8
    assert found["one-sided: error at h = 0.04 / at h = 0.02"] == pytest.approx(2, rel=0.05)
    assert found["central: error at h = 0.04 / at h = 0.02"] == pytest.approx(4, rel=0.05)
    costs = [number for name, number in found.items() if name.startswith("forward passes")]
    # a loss without derivative costs 3; the first layer needs no gradient for its input, which saves some
    assert costs == pytest.approx([4, 6, 6, 9], rel=0.05)


@pytest.mark.slow
def test_from_scratch_the_sign_of_imf_and_its_loss(example):
    found = example("05_from_scratch", 2)
    assert found["W - v at the exact map, with (s - t)"] < 1e-8
    wrong = found["W - v at the exact map, with (t - s)"]
    assert wrong > 0.5 and wrong == pytest.approx(found["2 (V - v), the error of the other sign"], rel=1e-6)
    loss = {name: found[f"loss at the exact map for s = 0.8, t = 0, {name}"] for name in ("flow matching", "iMF")}
    assert loss["iMF"] == pytest.approx(loss["flow matching"], rel=1e-6)
    assert found["loss at the exact map for s = 0.8, t = 0, MeanFlow"] > loss["iMF"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "exact", "small"),
    [
        ("06_lagrangian", ["LMD"], ["AYF-LMD", "PID", "BOOT"]),
        ("07_eulerian", ["EMD", "FACM"], ["AYF-EMD", "CTM"]),
        ("08_compositional", ["SplitMeanFlow", "PFMM", "progressive"], []),
    ],
)
def test_losses_vanish_at_the_exact_flow_map(name, exact, small, example):
    """Without training jumps are hardly more than the noise they start from, whose distance to the data is known."""
    found = example(name, 2)
    for method in exact:
        assert found[f"loss at the exact flow map, {method}"] < 1e-14
    if name == "08_compositional":  # the noise of eps - x_0 on the 75% of rows that are for the diagonal, 48 here
        noise_of_pairs = 0.75 * diffusion_loss_at_the_truth()
        error = abs(found["loss at the exact flow map, shortcut"] - noise_of_pairs.mean())
        assert error < 4 * noise_of_pairs.std() / 48**0.5
    for method in small:  # finite steps, and 0.99 of a warm-up
        assert found[f"loss at the exact flow map, {method}"] < 2e-3
    untrained = found["distance between noise and data, for comparison"]
    assert untrained == pytest.approx(found[f"distance of one jump from the exact one, {exact[0]}"], rel=0.5)


def diffusion_loss_at_the_truth(count=10_000):
    """|v - (eps - x_0)|^2 / D of eight Gaussians, whose scale is 0.3, at times as shortcut models draw them."""
    exact = eight_gaussians(std=0.3).exact
    x0, s = exact.sample(count), torch.randint(1, 129, (count, 1)).double() / 128
    eps = torch.randn_like(x0)
    return (exact.velocity((1 - s) * x0 + s * eps, s) - (eps - x0)).square().mean(1)


@pytest.mark.slow
def test_the_bias_of_consistency_models_is_of_first_order(example):
    found = example("09_consistency_models", 2)
    for method in ("CT", "CD"):
        assert found[f"{method}: bias at a step of 0.02 / of 0.01"] == pytest.approx(2, rel=0.05)
    assert found["CD with an exact solver: bias at a step of 0.01"] < 1e-7
    assert found["MeanFlow: bias"] < 1e-7


@pytest.mark.slow
def test_tricks_do_what_their_formulas_say(example):
    found = example("10_tricks", 2)
    assert abs(found["mean gap, uniform: LSD, PSD"] - 1 / 3) < 4 * (1 / 18 / 3000) ** 0.5
    assert found["mean gap, dyadic: shortcut models"] == pytest.approx(sum(2.0**-k for k in range(7)) / 7, abs=2e-3)
    for progress in (0.05, 0.2, 0.4):  # the widest gap is twice the progress, and is reached
        assert found[f"largest gap after {progress:.0%} of training"] == pytest.approx(2 * progress, abs=1e-6)
    r = 2.5
    slopes = {name.split(", ")[1]: slope for name, slope in found.items() if name.startswith("gradient")}
    assert slopes == pytest.approx(
        {
            "squared": 2 * r,
            "adaptive: MeanFlow": 2 * r / (r**2 + 0.01) ** 0.5,
            "normalised: sCM": 2 * r / (r + 0.1),
            "pseudo-Huber: iCT": r / (r**2 + 0.09) ** 0.5,
            "Cauchy: DMF": 2 * r / (1 + r**2),
        }
    )


@pytest.mark.slow
def test_the_landscape_is_counted(example, capsys):
    found = example("11_landscape", 1)
    printed = capsys.readouterr().out
    assert all(row.name in printed for row in fm.methods.LANDSCAPE) and found["methods"] == len(fm.methods.LANDSCAPE)
    # the derivative keeps its gradient: 2 + 4, its target 1, the diffusion term 3; a jump 3, two stopped ones 2, and 3
    assert found["cost of lsd, counted"] == pytest.approx(10, abs=0.05)
    assert found["cost of shortcut, counted"] == pytest.approx(8, abs=0.05)


@pytest.mark.slow
def test_faster_sampling_counts_its_network_calls(example):
    found = example("12_faster_sampling", 2)
    assert [number for name, number in found.items() if name.startswith("network calls")] == [1, 4, 4, 100]


@pytest.mark.slow
def test_inversion_and_interpolation_meet_at_the_ends(example):
    found = example("13_inversion", 2)
    assert found["size of the data"] == pytest.approx((2.0**2 + 2 * 0.3**2) ** 0.5, rel=0.02)
    assert abs(found["standard deviation of the exact noise"] - 1) < 4 / (2 * 2 * 2000) ** 0.5
    for end in "ab":
        assert found[f"interpolation at {end}, distance from {end} there and back"] < 1e-4


@pytest.mark.slow
def test_guidance_sharpens_and_jumps_cannot_be_mixed(example):
    found = example("14_guidance", 2)
    ode = [found[f"share nearest to the requested class, ODE, scale {scale}"] for scale in (1, 2, 4)]
    assert 0.8 < ode[0] < 0.95 < ode[1] <= ode[2]
    mixed = [found[f"distance of mixed jumps from the ODE, scale {scale}"] for scale in (1, 2, 4)]
    assert mixed[0] < 1e-4 and mixed[1] > 0.3 and mixed[2] > 1.5


@pytest.mark.slow
def test_an_example_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    out = tmp_path / "made" / "picture.png"
    monkeypatch.setattr(sys, "argv", ["02_flow_map.py", "--steps", "4", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / "02_flow_map.py"), run_name="__main__")
    assert out.exists() and f"wrote {out}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_trained_map_is_steered_by_a_measurement(example):
    """Particles have the residual of the posterior and its evidence; a point as look-ahead has neither."""
    found = example("15_steering", 600)
    assert found["residual / noise, particles"] == pytest.approx(found["residual / noise, the posterior"], abs=0.2)
    assert found["residual / noise, a point as look-ahead"] < 0.3 < 3 < found["residual / noise, one jump, not steered"]
    assert found["log p(y), particles"] == pytest.approx(found["log p(y), exact"], abs=0.4)


@pytest.mark.slow
def test_digits_are_restored_from_measurements(example):
    """After a short training the draws fit each measurement about as well as its noise lets them."""
    found = example("16_inverse_problems", 200)
    for name in ("inpainting", "deblurring", "super-resolution"):
        assert 0.8 < found[f"residual / noise, {name}, dps"] < 2.5
        assert found[f"PSNR of the mean, {name}, dps"] > 12


@pytest.mark.slow
def test_a_post_trained_map_follows_the_reward(example):
    """Three methods move weight between the modes, towards the tilted law; direct backpropagation moves samples by 1/2.

    The reward x_1 tilts eight modes of radius 2 and deviation 0.3: the weights are e^{x_1} of their centres.
    """
    found = example("17_post_training", 600)
    angle = torch.arange(8).double() * math.pi / 4
    weight = (2 * angle.cos()).softmax(0)
    exact = float((weight * 2 * angle.cos()).sum()) + 0.3**2
    assert found["mean reward, the tilted law"] == pytest.approx(exact, abs=4 * 0.7 / 2000**0.5)
    for name in ("tilting", "a steered teacher", "filtered samples"):
        assert found[f"mean reward, {name}"] == pytest.approx(exact, abs=0.4)
        assert found[f"share at the right, {name}"] > found["share at the right, before"] + 0.2
    moved = found["mean reward, direct backpropagation"] - found["mean reward, before"]
    assert moved == pytest.approx(0.5, abs=0.1)
    assert found["share at the right, direct backpropagation"] < found["share at the right, before"] + 0.12


@pytest.mark.slow
def test_a_trained_map_knows_its_density(example):
    """The ODE is right up to the training; jumps name the rows that they fold, and weigh their own samples right."""
    found = example("18_likelihood", 600)
    assert found["mean |log p - exact|, ODE, 200 calls"] < 0.3
    assert found["mean |log p - exact|, 4 jumps"] < 0.5 and found["mean |log p - exact|, one jump"] < 1.0
    for jumps in (1, 4):
        assert found[f"folded rows, {'one jump' if jumps == 1 else '4 jumps'}"] < 150
        share = found[f"effective share of samples, {jumps} jumps"]
        # the mean weight is 1: its logarithm has the standard error of (1/share - 1) / n
        assert abs(found[f"log Z, {jumps} jumps"]) < 4 * ((1 / share - 1) / 2000) ** 0.5 + 0.01


@pytest.mark.slow
def test_the_claim_about_stochastic_equations_lacks_the_ito_term(example):
    found = example("20_sde_likelihood", 200)
    square, runs = "mean of |delta|^2 / e^2", 4000
    assert found[f"{square}, measured"] == pytest.approx(3.52, abs=4 * 4.5 / runs**0.5)
    assert found[f"{square}, claimed"] == pytest.approx(1.52, abs=4 * 4.5 / runs**0.5)
    assert found["trace -1, by whitened delta"] == pytest.approx(-1) and found["trace -1, by delta"] > 1.4
    assert abs(found["log p with a new delta in every step, mean error"]) < 4 * 0.025 / 400**0.5
    assert abs(found["log p by the bound, 64 draws, mean error"]) < 4 * 0.5 / 400**0.5


@pytest.mark.slow
def test_joint_and_invertible_maps_know_log_densities(example):
    """After a short training; errors fall with the number of jumps, and no jump of FALCON folds space."""
    found = example("19_joint_likelihood", 400)
    assert found["mean |log p - exact|, joint, 1"] < 0.6
    assert found["mean |log p - exact|, joint, 4"] < found["mean |log p - exact|, joint, 1"] + 0.05
    assert found["mean |log p - exact|, FALCON's jumps, 8"] < found["mean |log p - exact|, FALCON's jumps, 1"] + 0.05
    assert found["mean |log p - exact|, ODE, 80 calls"] < 0.4
    assert found["determinant, smallest"] > 0 and found["cycle error"] < 0.3


def test_examples_of_steering_are_short():
    for name in ("15_steering", "16_inverse_problems", "17_post_training"):
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 40


def test_the_list_of_examples_is_whole_and_in_order():
    numbered = sorted(path.name for path in EXAMPLES.glob("[0-9][0-9]_*.py"))
    assert re.findall(r"^\| \[`(.*?)`\]", (EXAMPLES / "README.md").read_text(), flags=re.MULTILINE) == numbered
    for name in numbered:
        text = (EXAMPLES / name).read_text()
        assert text.startswith('"""Section ') and f"python examples/{name}" in text


@pytest.mark.slow
def test_keywords_are_written_by_jumps(example):
    """One Euler step has the same answer for every noise, one jump has not."""
    found = example("21_text", 300)
    assert found["total variation, 2000 exact draws"] < 0.06
    assert found["share of keywords, 1 Euler step"] < 0.1 and found["total variation, 1 Euler step"] > 0.9
    assert found["share of keywords, 1 jump"] > 0.2 and found["share of keywords, 16 jumps"] > 0.6


@pytest.mark.slow
def test_earthquakes_in_one_jump(example):
    """After a fifth of the training one jump is far nearer to the data than one Euler step."""
    found = example("22_manifolds", 300)
    one, step = (found[f"squared MMD to held-out earthquakes, {name}"] for name in ("1 jump", "1 Euler step"))
    assert abs(found["squared MMD to held-out earthquakes, earthquakes"]) < 0.01
    assert one < 0.02 < 0.04 < step


@pytest.mark.slow
def test_a_chain_by_one_jump_a_frame(example):
    """After a fifth of the training the chain has most of its variance, and few steps lie between the modes."""
    found = example("23_sequences", 140)
    assert found["variance, the chain"] == pytest.approx(1.0625, abs=0.03)
    assert 0.7 < found["variance, 1 jump a frame"] < 1.5
    assert found["steps within 0.3 of 0, 1 jump a frame"] < found["steps within 0.3 of 0, temperature 0.3"]


@pytest.mark.slow
def test_three_rules_have_gaps_at_a_wrong_map_alone(example):
    found = example("24_three_rules", 20)
    for rule, error in (("Compositional", 1e-8), ("Lagrangian", 0.02), ("Eulerian", 1e-8)):  # one step is finite
        assert found[f"gap, exact map, {rule}"] < error and found[f"gap, bent map, {rule}"] > 0.3


@pytest.mark.slow
def test_the_mean_of_conditional_velocities_is_the_velocity(example):
    found = example("25_conditional_velocities", 400_000)
    error = abs(found["mean of the velocities of pairs"] - found["velocity of the flow, exact"])
    assert error < 4 * found["its standard error"] < 0.2


@pytest.mark.slow
def test_distributions_do_not_fix_the_link(example):
    """After a short training from two starts the paths have begun to bring the turned map back."""
    found = example("26_alternatives", 40)
    turned = {name: found[f"distance from the exact jump, {name}, turned start"] for name in ("LSD", "drifting")}
    assert turned["LSD"] < turned["drifting"]


@pytest.mark.slow
def test_long_jumps_are_harder(example):
    found = example("27_long_jumps", 40)
    assert found["error of the shortest jumps"] < 0.3 * found["error of the longest jumps"]
