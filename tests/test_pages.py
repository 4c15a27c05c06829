"""The pages for a start run as they stand: blocks of Python, the output that they show, lines for the shell."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flowmaps as fm
from flowmaps.cli import main
from tests.integrations import tiny

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SHORT = {
    "steps=3000": "steps=3",
    "fm.noise(flow, 4000": "fm.noise(flow, 40",
    'fm.experiments.evaluate("runs/moons")': 'fm.experiments.evaluate("runs/moons", n=32, draws=2)',
}
"""Replacements in the quickstart, whose training takes a minute."""


def text(page):
    return (DOCS / page).read_text()


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), flags=re.M | re.S)


def run(page, few=None):
    """Run the blocks of a page in one namespace, the first `few` of them, and return it."""
    names = {}
    for block in blocks(page, "python")[:few]:
        for usual, short in SHORT.items() if page == "quickstart.md" else ():
            block = block.replace(usual, short)
        exec(compile(block, page, "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return tmp_path


@pytest.mark.filterwarnings("error:.*expected.*standard deviation", "error:the particles collapsed")
@pytest.mark.parametrize(
    "page",
    [
        "own_data.md",
        "own_network.md",
        "conditions.md",
        "latents.md",
        "save_load.md",
        "faq.md",
        "steering.md",
        "likelihood.md",
        "likelihood_sde.md",
    ],
)
@pytest.mark.slow
def test_a_page_runs_and_prints_what_it_says(page, folder, capsys):
    """A comment behind a print is its output."""
    run(page)
    printed = iter(capsys.readouterr().out.splitlines())
    said = [line for block in blocks(page, "python") for line in re.findall(r"print\(.*\)  # (.+)$", block, flags=re.M)]
    for expected in said:
        assert expected in printed, f"{expected} is not printed, or not in this order"
    assert len(said) == {"own_data.md": 9, "latents.md": 1, "save_load.md": 1, "likelihood.md": 2}.get(page, 0)


def test_the_check_of_a_network_finds_its_mistakes(folder, capsys):
    """The function of the page, on networks with the mistakes that it names."""
    import torch
    from torch import nn

    names = run("own_network.md")
    good = capsys.readouterr().out

    class Wrong(names["Mine"]):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(2, 2)

        def forward(self, x, s, t):
            return super().forward(x - x.mean(0), (1000 * s).long().double() / 1000, s)

    names["check"](Wrong(), torch.randn(8, 2).double())
    bad = capsys.readouterr().out
    assert "without gradient: []" in good and "['unused.weight', 'unused.bias']" in bad
    assert float(re.search("along t: (.*), error", bad)[1]) == 0 < float(re.search("along t: (.*), error", good)[1])
    for name, size in {"along s: .*": 1e-2, "a row alone:": 1e-2}.items():
        found = [float(re.search(f"{name} error (.*)", printed)[1]) for printed in (good, bad)]
        assert found[0] < 1e-4 and found[1] > size


def test_the_quickstart_prints_the_lines_that_it_shows(folder, capsys):
    names = run("quickstart.md", few=4)
    assert names["one_jump"].shape == names["ode"].shape == (40, 2) and Path("quickstart.png").stat().st_size > 1000

    def shape(printed):
        return [re.sub(r"-?\d[\d.e-]*", "0", " ".join(line.split())) for line in printed.splitlines()]

    shown = [line for block in blocks("quickstart.md", "text") for line in block.splitlines() if "left" not in line]
    assert shape(capsys.readouterr().out) == shape("\n".join(shown))


def test_the_extras_of_the_pages_are_the_declared_ones(monkeypatch):
    """The README's table and the generated one name the extras of pyproject.toml, with their packages."""
    monkeypatch.syspath_prepend(str(DOCS))
    import hooks

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \| .+ \|$", (ROOT / "README.md").read_text(), flags=re.M))
    made = dict(re.findall(r"^\| `(\w+)` \| (.*) \| .+ \|$", hooks.extras(), flags=re.M))
    assert rows.keys() == made.keys() == project["optional-dependencies"].keys()
    for extra, packages in project["optional-dependencies"].items():
        for package in packages:
            name, others, bound = re.match(r"([\w-]+)(?:\[([\w,]+)\])?(?:>=([\d.]+))?", package).groups()
            parts = [f"`{one}`" for one in others.split(",")] if name == "flowmaps" else [name]
            assert extra == "all" or all(part in rows[extra] for part in parts)
            assert all(f"{part} {bound}" if bound else part in made[extra] for part in parts)
    [torch] = project["dependencies"]
    needs = f"Python {project['requires-python'].strip('>=')} or newer and torch {torch.partition('>=')[2]} or newer"
    assert needs in text("install.md")


@pytest.mark.slow
def test_the_report_of_the_quickstart_is_written(folder):
    assert Path(run("quickstart.md")["page"]).stat().st_size > 50_000


@pytest.mark.slow
def test_the_functions_for_pipelines_run_on_one(folder):
    import torch

    names = run("latents.md")
    pipeline = tiny.ldm(folder / "pipeline", quantised=False)
    data = names["encoded"](pipeline, torch.rand(6, 3, 16, 16) * 2 - 1, "cache")
    pictures = names["decoded"](pipeline, data.draw(2).x0)
    assert pictures.shape == (2, 3, 16, 16) and fm.data.load("cache").shape == data.shape == (4, 8, 8)


def pasted(page):
    """All lines for the shell but those that install, which `make test-install` tests."""
    lines = "".join(blocks(page, "sh")).splitlines()
    chosen = [line for line in lines if not line.startswith(("pip ", "make ", "source "))]
    assert len(chosen) >= 4
    return chosen


@pytest.mark.slow
def test_the_first_lines_for_the_shell_run_when_they_are_pasted(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in {"flowmaps": " -m flowmaps", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
        (programs / name).chmod(0o755)
    ended = subprocess.run(
        ["bash", "-e"],
        input="\n".join(pasted("install.md")),
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "check.png").stat().st_size > 1000
    shown = blocks("install.md", "text")[0].splitlines()
    assert shown[0] in ended.stderr and shown[-1] in ended.stderr and f"flowmaps {fm.__version__}" in ended.stdout


@pytest.mark.slow
def test_the_lines_of_the_quickstart_run_in_their_order(folder):
    """With short training."""
    for line in pasted("quickstart.md"):
        assert main(shlex.split(line.replace("--steps 3000", "--steps 20"))[1:]) == 0
    assert (folder / "moons.png").stat().st_size > 1000
