"""Install the wheel with each extra into an environment of its own, and use it there: `make test-install`.

The wheel is built from the source archive, so that both are whole. pip says that the wheel with all extras is satisfied
by the packages of .venv, which pip installed with the versions of constraints.txt. An environment then gets the wheel,
and links to the packages that the metadata of the wheel ask for with one extra, and that those ask for: what pip would
install. An extra that lacks a package fails, because nothing else can be imported there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
ELSEWHERE = {"perceptual", "audio", "flash", "bench", "docs", "dev"}
"""Extras that need a GPU, torchvision or soundfile, and the tools of this repository, which `make` installs."""
INSTALLED = "import importlib.metadata as m; print(*{one.name for one in m.distributions()}, sep='\\n')"
"""Prints the distributions of an environment."""


def run(*command, **options):
    """Run a command; its output is shown if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def pip(*arguments):
    """Run pip of .venv."""
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


def needed(package, extra, found):
    """Add the distributions that a distribution asks for with an extra, and that those ask for; keys: name and extra.

    A version that does not satisfy what is asked for ends the program.
    """
    for requirement in map(Requirement, package.requires or ()):
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        asked = package if name == package.name else distribution(name)
        if asked.version not in requirement.specifier:
            sys.exit(f"{package.name} asks for {requirement}, and constraints.txt has {asked.version}")
        for more in ("", *requirement.extras):
            if (name, more) not in found:
                found[name, more] = asked
                needed(asked, more, found)
    return found


def linked(packages, place):
    """Link packages of .venv into a folder: the folders and files that are on top of what they installed."""
    for package in packages:
        tops = {file.parts[0] for file in package.files} - {"..", "__pycache__"}
        for top in tops:
            (place / top).symlink_to(package.locate_file(top))


def with_extra(wheel, extra):
    """Make an environment with the wheel and what an extra asks for, and run its program in an empty folder."""
    home = Path(wheel.locate_file("..")).resolve()
    environment, folder = home / f"with-{extra}", home / f"use-{extra}"
    venv.create(environment, symlinks=True)
    folder.mkdir()
    packages = {wheel.name: wheel} | {name: package for (name, _), package in needed(wheel, extra, {}).items()}
    [place] = environment.glob("lib/python*/site-packages")
    linked(packages.values(), place)
    python, quiet = environment / "bin" / "python", {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    there = {canonicalize_name(name) for name in run(python, "-c", INSTALLED, cwd=folder, env=quiet).split()}
    assert there == packages.keys(), there ^ packages.keys()
    run(python, "-c", USES[extra], cwd=folder, env=quiet)
    print(f"flowmaps[{extra}] works, {len(there)} packages", flush=True)


def build(home):
    """Build the source archive, and the wheel from it alone."""
    sdist = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", sdist, home, cwd=ROOT)
    shutil.rmtree(ROOT / "flowmaps.egg-info")  # otherwise its version would hide the installed one
    [archive] = home.glob("*.tar.gz")
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", home, archive)
    [wheel] = home.glob("*.whl")
    return wheel


def main():
    """Build the wheel and install it, then use it alone and with each extra, two at a time."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == set(USES) - {""} | ELSEWHERE, "each extra has a program in this file"
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        archive = build(home)
        pip("install", "-q", "--dry-run", "--no-index", "-c", ROOT / "constraints.txt", f"{archive}[all]")
        pip("install", "-q", "--no-deps", "--no-index", "--target", home / "wheel", archive)
        [wheel] = distributions(path=[home / "wheel"])
        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(lambda extra: with_extra(wheel, extra), sorted(USES, key=lambda extra: extra != "all")))


if __name__ == "__main__":
    main()
