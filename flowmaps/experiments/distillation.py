"""`distill`: a pretrained model made a flow map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from .. import students
from ..data import Data
from ..flow_map import FlowMap, GuidanceSpec
from ..guidance.conditions import SCALE
from ..methods import LANDSCAPE, Row
from ..recipes.distillation import TIMES
from .build import MethodLike, check_method_arguments, for_row, row_of
from .dry_run import DryRun, dry_run_of
from .guide import Guide, Scales, scale_range, time_interval
from .guided_run import EVERYWHERE, TimeInterval
from .pretrained_sources import FOR_PIPELINES, PretrainedSource, RunSource, SourceOptions
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
    classes: int | None = None,
    moments: bool = False,
    cache: str | Path | None = None,
    component: str | None = None,
    variant: str | None = None,
    checkpoint: bool = False,
    steps: int = 5000,
    batch_size: int = 64,
    lr: float = 1e-4,
    clip: float | None = 1.0,
    out: str | Path | None = None,
    dry_run: bool = False,
    say: Say = silent,
    **settings: Any,
) -> TrainedRun | DryRun:
    """Make a flow map of a pretrained model, in a run folder, as `flowmaps distill` does.

    Args:
        folder: Folder of a pipeline of diffusers, its name on the Hugging Face hub, or a run folder.
        data: Images, latents, or a folder that an earlier `cache` made; as for `data.load`, or a `Data`. None: the
            data of the run, or none for methods that learn without.
        data_args: Options of a data set that is named.
        prompts: File with a prompt on each line, or the prompts: one for each image, or alone without images. None:
            the captions of the images.
        negative_prompt: Prompt to guide away from. None: the empty one.
        method: A distillation method: its name, its function or its row.
        method_args: Keyword arguments of the method's function.
        lora: Rank of low-rank additions to train. None: all weights are trained.
        lora_targets: Last parts of the names of the layers that get them. Empty: attention and feed-forward layers.
        guidance: Scale of guidance that is baked in, or (smallest, largest) for a guidance-conditioned student.
        guidance_interval: Times between which guidance acts, such as (0.2, 0.8). None: all.
        times: How layers are given the target time: "added", a new embedding; "decoupled", late layers see it;
            "source", not at all, for maps to the data alone. None: "added", or "source" if the method learns no other.
        dropout: Share of rows without their class or text.
        classes: Number of classes of a class-conditional pipeline. None: of the data or the model.
        moments: Whether the latent of an image is drawn anew each time, instead of its mean.
        cache: Folder for encoded images and prompts. None: runs/cache-FOLDER-DATA.
        component: Which network, of pipelines with two.
        variant: Which files of weights, such as "fp16". None: the main ones.
        checkpoint: Whether the network computes activations again in the backward pass, to save memory.
        steps: Training steps.
        batch_size: Rows of a training step.
        lr: Largest learning rate.
        clip: Largest norm of the gradient. None: no clipping.
        out: Run folder. None: runs/FOLDER-METHOD.
        dry_run: Whether to try three steps of a few rows, keep nothing, and count the cost of the whole run.
        say: Receives messages on the way.
        **settings: Other keyword arguments of `flowmaps.train`: ema, seed, precision, resume, trackers, ...

    Returns:
        The run, or the cost of it for a dry run.

    Raises:
        ValueError: Arguments do not fit together or do not fit the model, or name something unknown.
        TypeError: A setting is unknown.
        FileExistsError: There is a run in the folder and `resume` is not set.
        ImportError: LoRA without peft, or a pipeline without diffusers.
    """
    check_settings("distill", settings)
    row = distiller(method)
    check_method_arguments(row.build, method_args or {})
    options = SourceOptions(
        data=data,
        data_args=data_args,
        prompts=prompts,
        negative_prompt=negative_prompt,
        classes=classes,
        moments=moments,
        cache=cache,
        component=component,
        variant=variant,
        half=lora is not None and settings.get("precision") == "bf16",
        say=say,
    )
    source = source_of(folder, options)
    rows = source.data(row)
    guide = guide_of_distillation(source, rows, guidance, guidance_interval, negative_prompt, dropout)
    torch.manual_seed(settings.get("seed", settings_of_training()["seed"]))
    flow, teacher = student_of(source, row, guide, times=times, lora=lora, targets=lora_targets, checkpoint=checkpoint)
    made = row.build(teacher=guide.teacher(teacher), **(method_args or {}))
    rows = guide.data(rows)
    settings |= {"steps": steps, "batch_size": batch_size, "lr": lr, "clip": clip}
    if dry_run:
        return dry_run_of(flow, made, rows, **settings)
    known = {"lora": lora, "times": times, "component": component, "lora_targets": " ".join(lora_targets)}
    notes = source.notes | {name: str(value) for name, value in known.items() if value}
    notes |= {"label_dropout": f"{dropout:g}"} if dropout else {}
    notes |= guide.notes() | dict(settings.pop("notes", {}))
    return train_into(out or Path("runs") / f"{source.name}-{row.name}", flow, made, rows, say, notes=notes, **settings)


def distiller(method: MethodLike) -> Row:
    """The row of a distillation method. Raises ValueError for a method that learns without a teacher."""
    row = row_of(method)
    if not row.needs_teacher:
        known = ", ".join(row.name for row in LANDSCAPE if row.needs_teacher)
        raise ValueError(f"{row.name} is no distillation method, it learns from data alone; those that distil: {known}")
    return row


def guide_of_distillation(
    source: PretrainedSource,
    data: Data,
    guidance: Scales | None,
    interval: TimeInterval | None,
    negative_prompt: str | None,
    dropout: float,
) -> Guide:
    """The guidance of a distillation.

    Args:
        source: The pretrained model.
        data: Its data set.
        guidance: Scale, or range of scales.
        interval: Times between which it acts.
        negative_prompt: Prompt to guide away from.
        dropout: Share of rows without their class or text.

    Returns:
        The guidance.

    Raises:
        ValueError: The model has no null condition, there is an interval or a negative prompt without guidance, or the
            network takes the scale itself and cannot use them.
    """
    empty = source.empty(data) if dropout else None
    if guidance is None:
        for name, value in (("guidance_interval", interval), ("negative_prompt", negative_prompt)):
            if value is not None:
                raise ValueError(f"`{name}` says how to guide: it needs `guidance`")
        return Guide(empty=empty, dropout=dropout)
    (low, high), times = scale_range(guidance), time_interval(interval)
    if SCALE not in source.takes:
        return Guide(low, high, times, source.null(data), empty, dropout, taught=True)
    if times != EVERYWHERE or negative_prompt is not None:
        raise ValueError(
            "this network is told the scale of its guidance, which knows no interval and no negative prompt: leave "
            "`guidance_interval` and `negative_prompt` out"
        )
    return Guide(low, high, times, None, empty, dropout, taught=True, built_in=True)


def student_of(
    source: PretrainedSource,
    row: Row,
    guide: Guide,
    *,
    times: str | None = None,
    lora: int | None = None,
    targets: Sequence[str] = (),
    checkpoint: bool = False,
) -> tuple[FlowMap, Any]:
    """The flow map to train and its teacher: two networks, or with LoRA the same weights, with additions and without.

    Args:
        source: The pretrained model.
        row: The row of the method.
        guide: The guidance.
        times: Name of the time conditioning. None: the one for the method.
        lora: Rank of LoRA. None: all weights are trained.
        targets: Layers of LoRA. Empty: the default ones.
        checkpoint: Whether activations are computed again in the backward pass.

    Returns:
        The flow map and the teacher's velocity.

    Raises:
        ValueError: The method cannot learn with these times, or there are targets without LoRA.
        ImportError: peft is missing.
    """
    chosen = times or ("source" if row.only_target == 0.0 else "added")
    if chosen == "source" and row.only_target != 0.0:
        raise ValueError(
            f"{row.name} learns jumps to every time, which `times=source` leaves out: take added or decoupled, or a "
            "method of maps to the data, such as lcm"
        )
    teacher = source.teacher()
    flow = for_row(students.student(teacher, TIMES[chosen], told=(SCALE,) if guide.conditioned else ()), row)
    if guide.built_in:
        flow.guidance = GuidanceSpec((guide.low, guide.high), kind="by the network itself")
    if checkpoint:
        from ..integrations.diffusers import checkpoint as checkpointed

        checkpointed(flow)
    if lora is None:
        if targets:
            raise ValueError("`lora_targets` says which layers `lora` adds to: it needs `lora`")
        _forget_folder(flow)
        return flow, teacher
    from ..integrations import peft

    flow = peft.lora(flow, lora, targets=targets or None)
    return flow, peft.base_of(flow)


def _forget_folder(flow: FlowMap) -> None:
    """Let a flow map be loaded without the folder of its pipeline: its checkpoints hold all weights."""
    if any(type(part).__name__ == "DiffusersNetwork" for part in flow.modules()):
        from ..integrations.diffusers.networks import forget_folder

        forget_folder(flow)


def source_of(folder: str | PathLike[str], options: SourceOptions) -> PretrainedSource:
    """Open a pretrained model.

    Args:
        folder: A run folder, the folder of a pipeline, or its name on the Hugging Face hub.
        options: Options of the model.

    Returns:
        A run if the folder is one, else a pipeline.

    Raises:
        ValueError: An option is for pipelines and this is a run, or the folder is neither.
    """
    path = Path(folder)
    if not (path / "config.json").is_file() or (path / "model_index.json").is_file():
        from .pipeline_source import PipelineSource

        return PipelineSource(str(folder), options)
    for name in FOR_PIPELINES:
        if getattr(options, name):
            raise ValueError(f"`{name}` is for pipelines, and {folder} is a run or one model")
    return RunSource(path, options)
