"""docs/architecture.md agrees with the code: its floors with the linter's, its walks with the calls of real runs."""

import re
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import torch

import flowmaps as fm

ROOT = Path(__file__).parent.parent
PACKAGE = Path(fm.__file__).parent
PAGE = (ROOT / "docs/architecture.md").read_text()
LAYERS = next(
    contract["layers"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
)
QUIET = {"progress_bar": False, "trackers": (), "batch_size": 8}


def section(title):
    """The text below a heading of the page."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)[1]


def walk(title):
    """The (number, file, function) of each line of a walk."""
    lines = re.findall(r"^\| (?:(\d*) ?\| )?`([\w/]+\.py)` \| `([\w.]+)` \| .+ \|$", section(title), flags=re.M)
    assert len(lines) == section(title).count("\n| ") - 2  # but for the head, every line is understood
    return lines


def name_of(frame):
    """(file, function) of a frame; a function inside of another goes by the outer one's name."""
    file = Path(frame.f_code.co_filename).relative_to(PACKAGE).as_posix()
    return file, frame.f_code.co_qualname.split(".<locals>")[0]


def calls(run):
    """The (file, function) of the package's calls, in their order."""
    seen = []

    def note(frame, event, arg):
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            seen.append(name_of(frame))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return seen


def missing(steps, seen):
    """The first step that does not follow those before it among the calls; None if all do."""
    rest = iter(seen)
    return next((step for step in steps if step not in rest), None)


def small():
    data = fm.data.load("checkerboard")
    return fm.FlowMap(fm.networks.MLP(shape=data.shape, width=8, depth=1)), data


def test_the_picture_shows_the_floors_that_the_linter_holds():
    """Module by module, from the top; floors of several layers have a row for each."""
    picture = (ROOT / "docs/images/floors.svg").read_text()
    shown = re.findall(r'<text class="(name|module)" x="[\d.]+" y="([\d.]+)">([\w ]+)</text>', picture)
    layers = [re.findall(r"flowmaps\.(\w+)", layer) for layer in LAYERS]
    modules = [(float(y), name) for kind, y, name in shown if kind == "module"]
    assert sorted(name for _, name in modules) == sorted(name for layer in layers for name in layer)
    heights = [[y for y, name in modules if name in layer] for layer in layers]
    assert all(max(above) < min(below) for above, below in pairwise(heights))
    names = [name for kind, _, name in shown if kind == "name"]
    assert names[::-1] == ["Ground", "Mathematics", "Wings", "Material and measure", "Running", "Doing", "Talking"]


def test_every_module_has_a_floor():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__", "__main__"} == {name for layer in LAYERS for name in re.findall(r"\.(\w+)", layer)}


def test_the_walk_of_a_batch_is_the_walk_of_a_step():
    flow, data = small()
    states = iter(fm.train(flow, fm.methods.lsd(), data, steps=2, **QUIET))
    next(states)
    steps = walk("From a batch to a loss")
    seen = calls(lambda: next(states))
    assert missing([(file, name) for _, file, name in steps], seen) is None


def test_seven_frames_lead_from_the_loop_to_a_rule():
    """The numbered ones of the page, and no others."""
    numbered = {int(number): (file, name) for number, file, name in walk("From a batch to a loss") if number}
    assert list(numbered) == [1, 2, 3, 4, 5, 6, 7]
    stacks = []

    def lagrangian(*args):
        frame, stack = sys._getframe(1), []
        while frame:
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(PACKAGE):
                stack.append(name_of(frame))
            frame = frame.f_back
        stacks.append(stack[::-1])
        return fm.consistency.lagrangian(*args)

    rule = fm.consistency.guarded(lambda velocity, options: None)(lagrangian)
    flow, data = small()
    next(iter(fm.train(flow, fm.Method(fm.Term(rule, fm.velocity.own)), data, steps=1, **QUIET)))
    assert stacks == [list(numbered.values())]


def test_the_walk_of_a_sample_is_the_walk_of_sampling():
    flow, data = small()
    seen = calls(lambda: fm.sample(flow, torch.randn(4, *data.shape), steps=2))
    steps = [(file, name) for _, file, name in walk("From noise to a sample")]
    assert missing(steps, seen) is None


def test_a_walk_with_a_wrong_turn_is_noticed():
    flow, data = small()
    seen = calls(lambda: fm.sample(flow, torch.randn(4, *data.shape), steps=2))
    steps = [(file, name) for _, file, name in walk("From noise to a sample")]
    assert missing(steps[::-1], seen) is not None
    assert missing([*steps, ("steps/deterministic.py", "euler")], seen) == ("steps/deterministic.py", "euler")


def test_the_homes_of_the_words_exist():
    homes = re.findall(r"`([\w/]+(?:\.py|/))`", section("The words"))
    assert len(homes) > 20 and all((PACKAGE / home).exists() for home in homes)
