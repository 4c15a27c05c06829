"""`posttrain`: a trained run, moved towards a reward, into a new run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..arguments import at_least, given, positive
from ..data import Data
from ..data.labels import condition_of, uses_labels
from ..flow_map import FlowMap
from ..recipes.rows import MethodLike
from ..runs.folder import read_config
from ..runs.loading import load_with_step
from ..steering.reward import Rewards
from ..velocity.copies import copied
from .build import for_row
from .checks import check_by_name, check_settings_of_training, folder_of, refuse_tokens
from .guided_run import condition_names, is_conditioned
from .posttraining_methods import Made, Task, maker
from .reward_change import RewardChange, reward_change, rewarded_samples
from .rewards_from_text import reward_of
from .run_data import given_data, run_data
from .run_folder import check_out, folder_for
from .trained_run import (
    Say,
    TrainedRun,
    check_settings,
    data_of,
    device,
    settings_of_training,
    silent,
    train_into,
)

KEPT = ("folder", "component", "guidance", "guidance_interval")
"""Notes of the run before that hold for the new one: the pipeline behind it, and the guidance that it has learned."""


@dataclass(frozen=True)
class PostTrainedRun(TrainedRun):
    """A post-trained run; it can be used as a path wherever a run folder is expected.

    Args:
        change: The reward of samples before and after.
    """

    change: RewardChange | None = field(default=None, repr=False)


def posttrain(
    run: str | PathLike[str],
    *,
    reward: str | Rewards,
    classifier: str | Path | None = None,
    beta: float = 1.0,
    method: MethodLike = "tilting",
    method_args: Mapping[str, Any] | None = None,
    data: Any = None,
    data_args: Mapping[str, Any] | None = None,
    lora: int | None = None,
    lora_targets: Sequence[str] = (),
    n: int = 1000,
    steps: int = 1000,
    batch_size: int = 64,
    lr: float = 1e-4,
    clip: float | None = 1.0,
    out: str | Path | None = None,
    say: Say = silent,
    **settings: Any,
) -> PostTrainedRun:
    """Move a trained run to the law p(x0) e^{r(x0)/beta} / Z of a reward, in a new run folder, as `flowmaps posttrain`.

    The new folder is a run like any other. Its data are the data of the run before, with which evaluations compare.

    Args:
        run: The run folder.
        reward: "label:7" or "label:NAME", the log-probability of a class by a classifier; or a function of data (B,
            ...) -> (B,), in the units of the data.
        classifier: File of the classifier. None: the classifier of the run, trained now if it is missing.
        beta: Temperature: a small one follows the reward more closely.
        method: "tilting", "filtered", "reward_backpropagation", "grpo"; a distillation method such as "lmd", which
            learns from the steered velocity; or a function of yours (reward, beta, reference) -> `Method`.
        method_args: Keyword arguments of the method; of "filtered" `n`, `candidates`, `best`, `jumps` and `then`.
        data: Data instead of the data of the run; needed if these were made from an object.
        data_args: Options of a data set that is given by name.
        lora: Rank of LoRA. None: all weights are trained.
        lora_targets: Last parts of the names of the layers with LoRA. Empty: attention and feed-forward layers.
        n: Number of samples whose rewards are compared before and after.
        steps: Training steps.
        batch_size: Rows of a training step.
        lr: Largest learning rate.
        clip: Largest norm of the gradient. None: no clipping.
        out: Run folder. None: runs/RUN-METHOD, with a number if that exists.
        say: Receives progress messages.
        **settings: Other keyword arguments of `flowmaps.train`: ema, seed, precision, resume, trackers, ...

    Returns:
        The run, with the change of the reward.

    Raises:
        ValueError: Arguments do not fit together or do not fit the run, or name something unknown; the reward fails its
            checks.
        TypeError: A setting is unknown, or a value is of another type.
        BlockingIOError: Another process trains into the folder; the message names it.
        FileExistsError: The folder holds a run and `resume` is not set.
        FileNotFoundError: The run has no checkpoint.
        ImportError: peft is missing for LoRA.
    """
    check_settings("posttrain", settings)
    run = folder_of(run)
    positive(beta=beta)
    at_least(2, n=n)
    at_least(1, **given(lora=lora))
    check_settings_of_training({"batch_size": batch_size, "lr": lr, "clip": clip, **settings}, steps, None, out)
    check_by_name(method_args=method_args, data_args=data_args)
    if lora_targets and lora is None:
        raise ValueError("`lora_targets` names layers for `lora`: it needs `lora`")
    if data_args and data is None:
        raise ValueError("`data_args` are options of `data`: it needs `data`")
    check_out(out, settings.get("resume", False))
    name, make = maker(method, method_args or {})
    config, loaded, where = read_config(run), load_with_step(run), device(settings.get("device"))
    rows = run_data(run) if data is None else given_data(run, data_of(data, data_args))
    check_run(run, loaded.flow, config, rows)
    known = reward_of(reward, run, classifier=classifier, data=rows, device=where, say=say)
    seed = settings.get("seed", settings_of_training()["seed"])
    before = rewarded_samples(run, known, n, where, seed)
    flow, reference = loaded.flow.to(where), copied(loaded.flow).to(where).requires_grad_(False)
    made = make(Task(reference, known, beta, rows, config["method"]["name"], seed, say))
    torch.manual_seed(seed)
    flow = adapted(limited(flow, made), lora, lora_targets)
    settings |= {"steps": steps, "batch_size": batch_size, "lr": lr, "clip": clip}
    settings |= {"labels": config["training"]["labels"]}
    try_out(flow, made, **settings)
    notes: dict[str, Any] = {name: config["notes"][name] for name in KEPT if name in config["notes"]}
    notes |= {"post_training": about(run, loaded.step, reward, classifier, beta, name)}
    chosen = {"lora": lora, "lora_targets": " ".join(lora_targets)}
    notes |= {key: str(value) for key, value in chosen.items() if value}
    notes |= dict(settings.pop("notes", None) or {})
    with folder_for(out, f"{run.resolve().name}-{name}", settings) as folder:
        done = train_into(folder, flow, made.method, made.rows, say, notes=notes, **settings)
    change = reward_change(before, rewarded_samples(done.folder, known, n, where, seed), beta)
    return PostTrainedRun(done.folder, done.steps, done.state, change)


def check_run(run: Path, flow: FlowMap, config: Mapping[str, Any], rows: Data) -> None:
    """Refuse a run that cannot be post-trained with these rows.

    Args:
        run: The run folder.
        flow: Its flow map.
        config: The content of its config.json.
        rows: The data.

    Raises:
        ValueError: Rows have another shape or no labels, or the network takes a text or a scale of guidance.
    """
    refuse_tokens(config, "post-training is here")
    shape = tuple(config["data"]["shape"])
    if tuple(rows.shape) != shape:
        raise ValueError(f"{run} takes rows of shape {shape}, and {rows.name} has {tuple(rows.shape)}")
    if config["training"]["labels"] and rows.classes is None:
        raise ValueError(f"{run} was trained with class labels, and {rows.name} has none")
    if "text" in condition_names(flow.network):
        raise ValueError(
            f"the network of {run} takes a text, and its samples have no reward without one: post-train it in Python, "
            "fm.train(flow, fm.methods.tilting(reward, beta, flow), data), on rows with their texts"
        )
    if is_conditioned(flow.network):
        raise ValueError(
            f"the network of {run} takes the scale of guidance, and post-training moves a law of one scale: train a "
            "run with one scale, `guidance=2`, and post-train that"
        )


def limited(flow: FlowMap, made: Made) -> FlowMap:
    """The flow map with the times that the method learns, and with the guidance of its own."""
    if made.limits is None:
        return flow
    found = for_row(flow, made.limits)
    found.guidance = flow.guidance
    return found


def adapted(flow: FlowMap, lora: int | None, targets: Sequence[str]) -> FlowMap:
    """The flow map to train: itself, or with low-rank additions. Raises ImportError if peft is missing."""
    if lora is None:
        return flow
    from ..integrations import peft

    return peft.lora(flow, lora, targets=targets or None)


def try_out(flow: FlowMap, made: Made, **settings: Any) -> None:
    """Compute the loss of a few rows, so that a reward that does not fit is refused before a folder is made."""
    rows = max(8, 2 * len(made.method.terms))
    batch = made.rows.draw(rows).each(
        lambda part: part.to(flow.like.device, flow.like.dtype if part.is_floating_point() else None)
    )
    condition: Any = condition_of(batch, uses_labels(flow.network, made.rows, settings["labels"]))
    with torch.random.fork_rng(devices=[]):
        made.method.loss(flow, batch.x0, condition)


def about(
    run: Path, step: int, reward: str | Rewards, classifier: str | Path | None, beta: float, method: str
) -> dict[str, Any]:
    """The entry "post_training" of config.json."""
    text = reward if isinstance(reward, str) else getattr(reward, "__name__", type(reward).__name__)
    file = None if classifier is None else str(classifier)
    return {"run": str(run), "step": step, "reward": text, "classifier": file, "beta": float(beta), "method": method}
