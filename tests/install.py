"""Install the wheel with each extra into an environment of its own, and use it there: `make test-install`.

The wheel is built from the source archive, so that both are whole. The environments have the versions of
constraints.txt. The first one has the core and torch alone; the others are copies of it, so torch is installed once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = """
import torch, flowmaps as fm
flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
fm.methods.imf().loss(flow, torch.randn(16, 2)).value.backward()
assert fm.sample(flow, torch.randn(4, 2)).shape == (4, 2)
exact = fm.exact.Gaussian([0.5, -0.5])
assert exact(torch.randn(4, 2), 1.0, 0.0).isfinite().all()
"""
TRAIN = """
import torch, flowmaps as fm
from flowmaps.cli import main
flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
for state in fm.train(flow, fm.methods.imf(), torch.randn(64, 2), steps=2, batch_size=8, out="run", progress_bar=False):
    pass
assert state.step == 2 and fm.load("run")(torch.randn(4, 2), 1.0, 0.0).isfinite().all()
assert main(["methods"]) == 0
"""
DATA = """
import flowmaps as fm
assert fm.data.load("digits").draw(4).x0.shape == (4, 1, 8, 8)
assert fm.data.load("glyphs", fonts=["cmr10"]).draw(4).x0.shape == (4, 1, 16, 16)
assert fm.data.load("photos", patches=100).draw(4).x0.shape == (4, 3, 16, 16)
"""
ODE = """
import torch, flowmaps as fm
flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
assert fm.sample(flow, torch.randn(4, 2), 1, step=fm.steps.ode()).isfinite().all()
"""
MANIFOLDS = """
import torch, geoopt, flowmaps as fm
ball = fm.manifolds.from_geoopt(geoopt.PoincareBall(), 2)
assert ball.log_prior(ball.noise(torch.randn(4, 2))).isfinite().all()
"""
EVALUATE = """
import torch, flowmaps as fm
flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
small = {"n": 64, "draws": 2, "jumps": (1,), "ode_steps": ()}
assert fm.evaluate.evaluate(flow, fm.data.load("gaussian"), **small)["rows"]
"""
PLOT = """
import torch, flowmaps as fm
fm.visualise.points(torch.randn(64, 2), "points.png")
"""
DIFFUSERS = """
import torch, diffusers, flowmaps as fm
from flowmaps.integrations.diffusers import teacher
unet = diffusers.UNet2DModel(
    8, 1, 1, block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    norm_num_groups=4, layers_per_block=1)
diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained("ddpm")
flow = fm.student(teacher("ddpm"))
assert flow(torch.randn(2, 1, 8, 8), 1.0, 0.0).isfinite().all()
"""
ONNX = """
import torch, onnxruntime, flowmaps as fm
flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
fm.export.to_onnx(flow, "one_step.onnx", torch.randn(2, 2))
"""
USES = {
    "": CORE, "train": TRAIN, "data": DATA, "ode": ODE, "manifolds": MANIFOLDS, "plot": PLOT, "evaluate": EVALUATE,
    "diffusers": DIFFUSERS, "onnx": ONNX,
    "all": "\n".join((CORE, TRAIN, DATA, ODE, MANIFOLDS, PLOT, EVALUATE, DIFFUSERS, ONNX)),
}  # fmt: skip
"""A program for each extra; "" is the core."""
ELSEWHERE = {"perceptual", "flash", "bench", "docs", "dev"}
"""Extras that need a GPU or torchvision, and the tools of this repository, which `make` installs."""


def run(*command, **options):
    """Run a command; its output is shown if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def install(python, *what):
    """Install into another environment, with the versions of constraints.txt; most files are never imported there."""
    options = ["-q", "--disable-pip-version-check", "--no-compile", "-c", ROOT / "constraints.txt"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what)


def copied(environment, place):
    """Copy an environment by links to its files."""
    shutil.copytree(environment, place, symlinks=True, copy_function=os.link)
    return place


def use(environment, extra, folder):
    """Run the program of an extra in an empty folder, without this repository on the path."""
    folder.mkdir()
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    run(environment / "bin" / "python", "-c", USES[extra], cwd=folder, env=quiet)


def with_extra(core, wheel, extra):
    """Install the wheel with one extra into a copy of the environment of the core, and use it."""
    environment = copied(core, core.with_name(f"with-{extra}"))
    install(environment / "bin" / "python", f"{wheel}[{extra}]")
    use(environment, extra, core.with_name(f"use-{extra}"))
    print(f"flowmaps[{extra}] works", flush=True)
    shutil.rmtree(environment)


def build(home):
    """Build the source archive, and the wheel from it alone."""
    sdist = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", sdist, home, cwd=ROOT)
    shutil.rmtree(ROOT / "flowmaps.egg-info")  # otherwise its version would hide the installed one
    [archive] = home.glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", home, archive)
    [wheel] = home.glob("*.whl")
    return wheel


def main():
    """Build the wheel, install it alone and with each extra, two at a time, and use each installation."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == set(USES) - {""} | ELSEWHERE, "each extra has a program in this file"
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        wheel = build(home)
        core = home / "core"
        venv.create(core)
        install(core / "bin" / "python", "torch", wheel)
        use(core, "", home / "use-core")
        print("flowmaps works", flush=True)
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda extra: with_extra(core, wheel, extra), filter(None, USES)))


if __name__ == "__main__":
    main()
