"""`distill`: a pretrained model into a flow map."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from ..arguments import at_least, expect_path, given, truth
from ..data import Data
from ..evaluate.clip_measures import compare_motion, has_frames
from ..recipes.rows import MethodLike
from .build import check_method_arguments
from .checks import check_by_name, check_classes, check_settings_of_training, check_share
from .distillation_setup import distiller, guide_of_distillation, moved_on_policy, source_of, student_of
from .dry_run import DryRun, dry_run_of
from .guide import Guide, Scales
from .guided_run import TimeInterval
from .pretrained_sources import PretrainedSource, SourceOptions
from .run_folder import check_out, folder_for
from .trained_run import Say, TrainedRun, check_settings, settings_of_training, silent, train_into


def distill(
    folder: str | PathLike[str],
    *,
    data: Any = None,
    data_args: Mapping[str, Any] | None = None,
    prompts: str | Path | Sequence[str] | None = None,
    negative_prompt: str | None = None,
    method: MethodLike = "ayf_emd",
    method_args: Mapping[str, Any] | None = None,
    lora: int | None = None,
    lora_targets: Sequence[str] = (),
    guidance: Scales | None = None,
    guidance_interval: TimeInterval | None = None,
    times: Literal["added", "decoupled", "source"] | None = None,
    dropout: float = 0.0,
    classes: int | str | Path | Sequence[str] | None = None,
    moments: bool = False,
    cache: str | Path | None = None,
    component: str | None = None,
    variant: str | None = None,
    checkpoint: bool = False,
    on_policy: int | None = None,
    steps: int = 5000,
    batch_size: int = 64,
    lr: float = 1e-4,
    clip: float | None = 1.0,
    out: str | Path | None = None,
    dry_run: bool = False,
    say: Say = silent,
    **settings: Any,
) -> TrainedRun | DryRun:
    """Distil a pretrained model into a flow map, in a run folder, as `flowmaps distill` does.

    Args:
        folder: Folder of a pipeline of diffusers, its name on the Hugging Face hub, or a run folder.
        data: Images, latents, or a folder that an earlier `cache` made; as for `data.load`, or a `Data`. None: the
            data of the run, or no data for data-free methods.
        data_args: Options of a data set that is given by name.
        prompts: File with a prompt on each line, or the prompts: one for each image, or prompts alone, without images.
            None: the captions of the images.
        negative_prompt: Prompt to guide away from. None: the empty prompt.
        method: A distillation method: its name, its function or its row.
        method_args: Keyword arguments of the method's function.
        lora: Rank of LoRA. None: all weights are trained.
        lora_targets: Last parts of the names of the layers with LoRA. Empty: attention and feed-forward layers.
        guidance: Scale of guidance that is baked in, or (smallest, largest) for a guidance-conditioned student.
        guidance_interval: Times between which guidance acts, such as (0.2, 0.8). None: all.
        times: Time conditioning: "added", a new embedding of the target time; "decoupled", late layers see the target
            time; "source", none, for maps to the data alone. None: "source" if the method learns only such maps, else
            "added".
        dropout: Share of rows without their class or text.
        classes: Number of classes of a class-conditional pipeline, or their names in the order of their numbers: a
            list, or a file with a name on each line. None: taken from the pipeline or the data.
        moments: Whether the latent of an image is sampled anew each time, instead of using its mean.
        cache: Folder for encoded images and prompts. None: runs/cache-FOLDER-DATA.
        component: Name of the network to distil, for pipelines with two.
        variant: Variant of the weight files, such as "fp16". None: the main files.
        checkpoint: Whether activations are recomputed in the backward pass, to save memory.
        on_policy: Number of jumps of the sampler at whose states the student learns its jumps, instead of data with
            noise (`fm.methods.on_policy`). Without data all terms of the method start there. None: the method's own
            states.
        steps: Training steps.
        batch_size: Rows of a training step.
        lr: Largest learning rate.
        clip: Largest norm of the gradient. None: no clipping.
        out: Run folder. None: runs/FOLDER-METHOD, with a number if that exists.
        dry_run: Whether to try three steps of a few rows, write nothing, and count the cost of the whole run.
        say: Receives progress messages.
        **settings: Other keyword arguments of `flowmaps.train`: ema, seed, precision, resume, trackers, ...

    Returns:
        The run; for a dry run its cost.

    Raises:
        ValueError: Arguments do not fit together or do not fit the model, or name something unknown.
        TypeError: A setting is unknown, or a value is of another type.
        BlockingIOError: Another process trains into the folder; the message names it.
        FileExistsError: The folder holds a run and `resume` is not set.
        ImportError: peft is missing for LoRA, or diffusers for a pipeline.
    """
    check_settings("distill", settings)
    expect_path("folder", folder)
    truth(moments=moments, checkpoint=checkpoint, dry_run=dry_run)
    check_settings_of_training({"batch_size": batch_size, "lr": lr, "clip": clip, **settings}, steps, None, out)
    check_by_name(method_args=method_args, data_args=data_args)
    check_share(dropout=dropout)
    at_least(1, **given(lora=lora, on_policy=on_policy))
    check_classes(classes)
    if not dry_run:
        check_out(out, settings.get("resume", False))
    row = distiller(method)
    check_method_arguments(row.build, method_args or {})
    half = lora is not None and settings.get("precision") == "bf16"
    options = SourceOptions(
        data=data, data_args=data_args, prompts=prompts, negative_prompt=negative_prompt, classes=classes,
        moments=moments, cache=cache, component=component, variant=variant, half=half,
        device=settings.get("device"), say=say,
    )  # fmt: skip
    source = source_of(folder, options)
    rows = source.data(row if data is not None or on_policy is None else replace(row, data_free=True))
    guide = guide_of_distillation(source, rows, guidance, guidance_interval, negative_prompt, dropout)
    torch.manual_seed(settings.get("seed", settings_of_training()["seed"]))
    flow, teacher = student_of(source, row, guide, times=times, lora=lora, targets=lora_targets, checkpoint=checkpoint)
    made = row.build(teacher=guide.teacher(teacher), **(method_args or {}))
    made = made if on_policy is None else moved_on_policy(made, row, on_policy, data is not None)
    rows = guide.data(rows)
    settings |= {"steps": steps, "batch_size": batch_size, "lr": lr, "clip": clip}
    if dry_run:
        return dry_run_of(flow, made, rows, **settings)
    chosen = {"lora": lora, "times": times, "component": component, "lora_targets": " ".join(lora_targets)}
    chosen |= {"on_policy": on_policy}
    notes = notes_of_distillation(source, guide, chosen) | dict(settings.pop("notes", {}))
    with folder_for(out, f"{source.name}-{row.name}", settings) as run:
        found = train_into(run, flow, made, rows, say, notes=notes, **settings)
    return with_motion(found, guide.teacher(teacher), rows, on_policy or 4, say)


def with_motion(run: TrainedRun, teacher: Any, data: Data, jumps: int, say: Say) -> TrainedRun:
    """Add the motion of the student's clips to a run on videos, if this process took all its steps."""
    if run.state is None or not has_frames(data.shape):
        return run
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        say("The motion of the student's clips is not measured by several processes: fm.evaluate.compare_motion does")
        return run
    counts = sorted({1, jumps})
    return replace(run, motion=compare_motion(run.state.ema, teacher, data, jumps=counts))


def notes_of_distillation(source: PretrainedSource, guide: Guide, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The notes for config.json: the pretrained model, the chosen options and the guidance."""
    notes = source.notes | {name: str(value) for name, value in chosen.items() if value}
    notes |= {"label_dropout": f"{guide.dropout:g}"} if guide.dropout else {}
    return notes | guide.notes()
