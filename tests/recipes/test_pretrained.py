"""Distillations of large pipelines: their code paths, on tiny random pipelines of the same classes, and their plans."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.cli.options_distill import Distill
from flowmaps.draws import Rows
from flowmaps.integrations.peft import base_of
from flowmaps.recipes import PRETRAINED
from flowmaps.recipes.distillation import NAME_OF_TIMES, TIMES, null_conditions, placeholder_conditions
from flowmaps.recipes.planning import CostEstimate
from flowmaps.recipes.planning.counting import loss_and_backward, total_cost
from tests.integrations import tiny

ROWS = Rows(0, 1, 4)
FAST = ["--no-progress-bar", "--trackers", "--sample-every", "0", "--seed", "1"]
PIPELINES = {
    "sd15": tiny.stable_diffusion,
    "sdxl-lora": tiny.sdxl,
    "sd3-medium": tiny.sd3,
    "flux-dev-lora": tiny.flux,
    "wan22-5b-lora": tiny.wan,
}
PUBLISHED = {"sd15": 859_520_964, "sdxl-lora": 2_567_463_684, "flux-dev-lora": 11_901_408_320}
"""Weights of the networks as they are on the hub."""


@pytest.fixture(scope="module", params=PIPELINES)
def case(request, tmp_path_factory):
    """A folder with data and prompts, and the recipe for a tiny pipeline in it."""
    home = tmp_path_factory.mktemp(request.param)
    folder = PIPELINES[request.param](home / "pipeline")
    [config] = (folder / part / "config.json" for part in ("unet", "transformer") if (folder / part).is_dir())
    video, rng = request.param.startswith("wan"), np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    np.save(home / "x.npy", rng.normal(size=(6, 4, 3, 8, 8)).astype(np.float32) if video else images)
    (home / "prompts.txt").write_text("".join(f"a thing {i % 4}\n" for i in range(6)))
    recipe = PRETRAINED[request.param]
    known = {key: value for key, value in json.loads(config.read_text()).items() if not key.startswith("_")}
    sizes = {"shape": (4, 3, 8, 8) if video else (4, 8, 8), "tokens": 12, "steps": 3, "batch_size": len(ROWS)}
    small = replace(recipe, hub=str(folder), model=replace(recipe.model, config=known), **sizes)
    return home, small if small.lora is None else replace(small, lora=2)


@pytest.mark.slow
def test_its_launch_line_trains_a_map_that_loads_and_jumps(case, capsys):
    home, recipe = case
    told = {"DATA": home / "x.npy", "PROMPTS": home / "prompts.txt"}
    arguments = [str(told.get(word, word)) for word in shlex.split(recipe.command)]
    assert main([*arguments, *FAST, "--out", str(home / "run"), "--cache", str(home / "cache")]) == 0
    said = capsys.readouterr().err
    learned = re.search(r"a network of ([\d,]+) weights, ([\d,]+) of them trained", said)
    flow = fm.load(home / "run")
    planned = list(recipe.without_memory()[1].parameters())
    counts = sum(w.numel() for w in planned), sum(w.numel() for w in planned if w.requires_grad)
    assert learned.groups() == tuple(f"{count:,}" for count in counts)
    condition = {
        name: torch.ones_like(value) for name, value in placeholder_conditions(recipe, flow.network, 4).items()
    }
    x = fm.sample(flow.given(**condition), torch.randn(4, *recipe.shape))
    assert x.shape == (4, *recipe.shape) and x.isfinite().all()
    config = json.loads((home / "run" / "config.json").read_text())
    kept = {"steps": 3, "batch_size": 4, "lr": recipe.lr, "ema": recipe.ema, "clip": recipe.clip, "precision": "bf16"}
    assert kept.items() <= config["training"].items()
    assert (flow.only_target == 0.0) == (recipe.row.only_target == 0.0)


def real_step(recipe):
    """Operations, bytes kept for the backward pass, and weights that are trained, of a step on the CPU."""
    torch.manual_seed(0)
    network = recipe.model.network().to(torch.bfloat16 if recipe.lora else torch.float32)
    teacher = fm.Pretrained(network, recipe.reading())
    flow = recipe.student(teacher).train()
    condition = placeholder_conditions(recipe, network, len(ROWS))
    method = recipe.build(base_of(flow) if recipe.lora else teacher, null_conditions(condition))
    method.begin(flow)
    step = loss_and_backward(flow, method, torch.randn(len(ROWS), *recipe.shape), condition, ROWS, recipe.precision)
    return *step, sum(weight.numel() for weight in flow.parameters() if weight.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["flux-dev-lora"], indirect=True)
def test_the_plan_of_many_layers_is_what_they_take(case):
    """From networks of one and two layers of each of two kinds, for one of more. By a method that is soon counted."""
    many = case[1].model.with_layers(num_layers=3, num_single_layers=4)
    recipe = replace(case[1], model=many, method=fm.methods.lcm)
    cost = total_cost(recipe, ROWS)
    flops, activations, parameters = real_step(recipe)
    assert (cost.flops, cost.parameters) == (flops, parameters)
    assert cost.activations == pytest.approx(activations, rel=0.01)


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_page_says_what_is_planned(name):
    """Weights of all and of trained layers, and launch lines; the networks are those on the hub."""
    recipe, weights, trained = PRETRAINED[name], 0, 0
    for times, part in recipe.parts():
        teacher, flow = part.without_memory()
        weights += times * sum(w.numel() for w in teacher.parameters())
        trained += times * sum(w.numel() for w in flow.parameters() if w.requires_grad)
    assert weights == PUBLISHED.get(name, weights)
    page = (Path(__file__).parents[2] / "docs" / "pretrained_recipes.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`") and line.count("|") > 8)
    assert [cell.strip() for cell in row.split("|")[2:4]] == [f"{weights / 1e6:,.1f}", f"{trained / 1e6:,.1f}"]
    lines = [line for shard in (False, True) for line in CostEstimate(recipe, 8, 1, shard, None).launch.values()]
    assert sum(line in page.splitlines() for line in lines) == 1


def test_times_are_called_as_on_the_command_line():
    names, _ = get_args(get_type_hints(Distill)["times"])
    assert set(get_args(names)) == TIMES.keys() and {NAME_OF_TIMES[times] for times in TIMES.values()} == TIMES.keys()
