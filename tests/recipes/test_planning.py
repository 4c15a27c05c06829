"""Planning: what is counted on tensors without memory is what a real step takes."""

import functools
import json
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from flowmaps.cli import main, parse
from flowmaps.cli.arguments import scales_of
from flowmaps.cli.plan import given, print_estimate
from flowmaps.draws import Rows
from flowmaps.experiments.planning import adapted
from flowmaps.forward_mode import SCORES_PER_BLOCK
from flowmaps.recipes import PRETRAINED, find, find_any
from flowmaps.recipes.distillation import NAME_OF_TIMES
from flowmaps.recipes.planning import Cost, CostEstimate, cost_of, counter, plan

pytestmark = pytest.mark.slow

B4 = find("imagenet256-dit-b4-meanflow").reduced()
UNET = find("cifar10-unet-meanflow").reduced()


def mostly_frozen(*args, **options):
    """B4's network with its first block frozen, and the embeddings."""
    network = B4.network(*args, **options)
    for part in (network.conditioning, network.blocks[0]):
        part.requires_grad_(False)
    return network


FAMILIES = {
    "meanflow": B4,
    "bf16": replace(B4, precision="bf16"),
    "checkpoints": B4.checkpointed(),
    "images": UNET,
    "own target": replace(B4, method=fm.methods.lsd),
    "averaged target": replace(B4, method=fm.methods.tvm),
    "teacher": find("imagenet256-dit-b4-ayf-emd").reduced(),
    "auxiliary": replace(B4, method=fm.methods.freeflow),
    "learned weight": replace(B4, method=fm.methods.dmf),
    "frozen": replace(B4, method=fm.methods.tvm, network=mostly_frozen),
    "radam": find("cifar10-unet-ect").reduced(),
}


@functools.cache
def planned(family):
    return cost_of(FAMILIES[family], Rows(0, 1, 8))


def real_step(recipe):
    """Weights, operations, bytes kept for the backward pass and states of the optimizer of a step on the CPU."""
    torch.manual_seed(0)
    teacher = recipe.flow().unlimited().eval() if recipe.row.needs_teacher else None
    flow, method = recipe.flow().train(), recipe.build(teacher)
    method.begin(flow)
    modules = [flow, method] + ([] if teacher is None else [teacher])
    weights = {w.untyped_storage().data_ptr() for module in modules for w in module.parameters()}
    x0, label = torch.randn(8, *recipe.shape), None if recipe.classes is None else torch.arange(8)
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with counter() as operations:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = method.loss(flow, x0, label, progress=0.5)
        loss.value.backward()
    trained = [w for module in (flow, method) for w in module.parameters() if w.requires_grad]
    make = recipe.settings()["optimizer"] or partial(torch.optim.AdamW, lr=recipe.lr, fused=True)
    optimizer = make(trained)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    return {
        "parameters": sum(w.numel() for w in trained),
        "flops": operations.get_total_flops(),
        "activations": sum(storage.nbytes() for storage in kept.values()),
        "optimizer": sum(value.numel() * value.element_size() for value in states),
        "gradients": sum(w.grad.numel() * w.grad.element_size() for w in trained if w.grad is not None),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_planned_is_real(family):
    cost, real = planned(family), real_step(FAMILIES[family])
    for name in ("parameters", "flops", "optimizer", "gradients"):
        assert getattr(cost, name) == real[name], name
    assert cost.activations == pytest.approx(real["activations"], rel=0.1)


def test_operations_of_a_forward_and_backward_pass_of_attention_are_counted():
    """Two products of (tokens, tokens, width) each way, 4 B h n^2 d, and one again in the backward pass of five."""
    q, k, v = torch.randn(3, 2, 4, 16, 8, requires_grad=True).unbind(0)
    with counter() as seen:
        torch.nn.functional.scaled_dot_product_attention(q, k, v).sum().backward()
    assert seen.get_total_flops() == (4 + 10) * 2 * 4 * 16**2 * 8


def test_the_count_is_that_of_torch_where_nothing_is_fused():

    x0 = torch.randn(8, 3, 32, 32)
    with counter() as ours:
        fm.methods.flow_matching().loss(fm.FlowMap(fm.networks.MLP((3, 32, 32), 8, 1)), x0).value.backward()
    with FlopCounterMode(display=False) as theirs:
        fm.methods.flow_matching().loss(fm.FlowMap(fm.networks.MLP((3, 32, 32), 8, 1)), x0).value.backward()
    assert ours.get_total_flops() == theirs.get_total_flops()


def test_what_is_beside_the_flow_has_a_line():
    weights = sum(w.numel() * 4 for w in B4.flow().parameters())
    assert planned("averaged target").targets == planned("teacher").teachers == weights
    auxiliary, alone = planned("auxiliary"), planned("meanflow")
    assert auxiliary.parameters == 2 * alone.parameters and auxiliary.optimizer == 2 * alone.optimizer
    assert alone.targets == alone.teachers == 0


def test_frozen_weights_are_held_once():
    """They have no gradient, no state of an optimizer, and neither the average nor the target has another copy."""
    flow, cost, all_trained = FAMILIES["frozen"].flow(), planned("frozen"), planned("averaged target")
    frozen = sum(w.numel() for w in flow.parameters() if not w.requires_grad)
    assert frozen > 0
    assert cost.parameters == all_trained.parameters - frozen and cost.weights == all_trained.weights
    for name in ("average", "targets", "gradients"):
        assert getattr(cost, name) == getattr(all_trained, name) - 4 * frozen, name
    assert cost.flops < all_trained.flops and cost.optimizer < all_trained.optimizer


def test_checkpoints_keep_less_and_compute_more():
    plain, thrifty = planned("meanflow"), planned("checkpoints")
    assert thrifty.activations < plain.activations / 2 and plain.flops < thrifty.flops < 1.5 * plain.flops


def test_gpus_and_parts_share_the_rows():
    recipe = replace(B4, batch_size=64)
    one, four, parts = plan(recipe, gpus=1), plan(recipe, gpus=4), plan(recipe, gpus=2, accumulate=2)
    assert (one.rows, four.rows, parts.rows) == (64, 16, 16)
    assert one.flops == 4 * four.flops == 2 * parts.flops
    assert four.cost == parts.cost and one.images == 3 * 64
    assert 0.2 < four.cost.activations / one.cost.activations < 0.3
    assert one.hours(2e12) == pytest.approx(3 * one.flops / 2e12 / 3600)
    for wrong in ({"gpus": 0}, {"accumulate": 0}):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            plan(recipe, **wrong)
    with pytest.raises(ValueError, match="the rate of a GPU must be positive"):
        one.hours(0)
    with pytest.raises(ValueError, match="take a larger batch"):
        plan(B4, gpus=8)
    with pytest.raises(ValueError, match="cmt cannot be planned"):
        plan(replace(B4, method=fm.methods.cmt), gpus=1)


def test_memory_whole_and_spread():
    cost = replace(planned("averaged target"), teachers=400)
    w, alike = cost.weights, {"targets": cost.targets, "teachers": 400}

    def memory(gpus, accumulate=1, shard=False):
        return CostEstimate(B4, gpus, accumulate, shard, cost).memory

    assert memory(1) == {
        "weights": w,
        "optimizer states": cost.optimizer,
        "average of the weights": w,
        **alike,
        "gradients": cost.gradients,
        "activations": cost.activations,
    }
    assert memory(4) == memory(4, 2) == memory(1)
    spread = {name: -(-size // 4) for name, size in memory(1).items() if name not in ("gradients", "activations")}
    step = {name: memory(1)[name] for name in ("gradients", "activations")}
    gathered = {"gathered weights": w + cost.targets + 400}
    assert memory(4, shard=True) == memory(4, 2, True) == {**spread, **gathered, **step}
    assert CostEstimate(B4, 4, 2, True, cost).total == sum(memory(4, 2, True).values())


def test_nothing_is_left_behind():
    """Neither random numbers nor the global settings of attention change."""
    torch.manual_seed(0)
    before, blocks = torch.get_rng_state(), dict(SCORES_PER_BLOCK)
    cost_of(B4, Rows(0, 1, 8))
    assert torch.equal(before, torch.get_rng_state()) and SCORES_PER_BLOCK == blocks


def output(capsys, *arguments):
    assert main(["plan", *arguments]) == 0
    return capsys.readouterr().out


def test_the_command_line_lists_and_refuses(capsys):
    listing = output(capsys)
    assert "cifar10-unet-ect" in listing and "flowmaps plan RECIPE" in listing
    assert all(name in listing for name in PRETRAINED)
    known = {recipe["name"]: recipe for recipe in json.loads(output(capsys, "--json"))}
    assert known["cifar10-unet-flow-matching"]["steps"] == 400_000
    assert known["sdxl-lora"]["times"] == "source" and known["sd15"]["model"]["config"]["cross_attention_dim"] == 768
    assert main(["plan", "imagenet256"]) == 2 and "unknown recipe" in capsys.readouterr().err


def test_the_command_line_in_words(capsys):
    options = ["--gpus", "2", "--accumulate", "4", "--batch-size", "64", "--shard", "--memory", "80", "--method", "imf"]
    options += ["--checkpoint"]
    text = output(capsys, "imagenet256-dit-b4-meanflow", *options)
    for words in ("130.2 million", "in 4 parts: 8 at a time", "pass --rate", "of 80 GB", "48.16", "RMS normalisation"):
        assert words in text, words
    assert "torchrun --standalone --nproc_per_node 2" in text and "--checkpoint --shard --accumulate 4" in text
    assert "method      imf" in text and "accelerate" not in text


def test_the_page_says_what_the_command_prints(capsys):
    name = "imagenet256-dit-b4-meanflow"
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`") and "fp32" in line)
    found = json.loads(output(capsys, name, "--rate", "100", "--json"))
    assert found["gpus"] == 8 and "--num_processes 8" in found["launch"]["accelerate"]
    assert found["hours"] == pytest.approx(1_200_960 * found["flops_per_gpu_and_step"] / 1e14 / 3600)
    told = [cell.strip() for cell in row.split("|")[2:-1]]
    counted = [f"{found['flops_per_gpu_and_step'] / 1e12:.2f}", f"{found['steps']:,}", f"{found['hours']:.1f}"]
    assert [*told[:3], *told[7:]] == [f"{found['parameters'] / 1e6:.1f}", str(found["rows_per_gpu"]), "fp32", *counted]
    memory = [found["memory"]["activations"] / 1e9, found["memory_total"] / 1e9]
    assert [float(cell) for cell in told[3:5]] == pytest.approx(memory, rel=0.1)


@pytest.mark.parametrize("recipe", PRETRAINED.values(), ids=PRETRAINED)
def test_the_launch_line_of_a_distillation_is_what_the_recipe_says(recipe):
    """As `flowmaps distill` reads it."""
    estimate = CostEstimate(replace(recipe, steps=70, batch_size=16), 8, 2, True, None)
    launcher, _, line = estimate.launch["torchrun"].partition(" -m flowmaps ")
    options = parse(shlex.split(line))
    assert launcher == "torchrun --standalone --nproc_per_node 8"
    assert (options.folder, options.method, options.lora) == (recipe.hub, recipe.row.name, recipe.lora)
    assert (options.steps, options.batch_size, options.accumulate, options.shard) == (70, 16, 2, True)
    for name in ("lr", "ema", "clip", "precision", "checkpoint"):
        assert getattr(options, name) == getattr(recipe, name)
    assert options.times == NAME_OF_TIMES[recipe.times] and str(options.out) == f"runs/{recipe.name}"
    low, high = scales_of(options.guidance)
    assert recipe.guidance == (low if low == high else (low, high))
    assert recipe.row.needs_teacher and recipe.where and recipe.why
    with pytest.raises(ValueError, match="a pretrained pipeline"):
        find(recipe.name)


def test_what_a_distillation_takes_is_said(capsys):
    options = parse(["plan", "sdxl-lora", "--rate", "200", "--method", "lcm", "--method-args", "points=20"])
    asked = {name: given(options)[name] for name in ("method", "method_args", "steps", "checkpoint")}
    recipe = adapted(find_any("sdxl-lora"), **asked)
    cost = Cost(2_500_000, 7_500_000, 10**14, *[10**9] * 7)
    estimate = CostEstimate(recipe, 8, 1, False, cost)
    print_estimate(estimate, options, estimate.hours(2e14))
    text = capsys.readouterr().out
    for words in ("2.5 million trained, 7.5 million frozen", "0.7 at 200 TFLOPS", "stable-diffusion-xl"):
        assert words in text, words
    assert "--method lcm --data DATA" in text and "--method-args points=20" in text and "accelerate launch" in text
    assert estimate.as_dict()["frozen"] == 7_500_000
