"""The parts of a distillation: the pretrained model, its guidance, and the student with its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .. import students
from ..data import Data
from ..flow_map import FlowMap, GuidanceSpec
from ..guidance.conditions import SCALE
from ..method.method import Method
from ..methods import DISTRIBUTIONAL, LANDSCAPE, RestartedRollout, Rollout, Row, off_diagonal, on_policy
from ..recipes.distillation import TIMES
from ..recipes.rows import MethodLike, row_of
from .build import for_row
from .guide import Guide, Scales, scale_range, time_interval
from .guided_run import EVERYWHERE, TimeInterval
from .pretrained_sources import FOR_PIPELINES, PretrainedSource, RunSource, SourceOptions


def distiller(method: MethodLike) -> Row:
    """The row of a distillation method. Raises ValueError for a method that learns without a teacher."""
    if isinstance(method, Method):
        raise ValueError("`distill` gives the method its teacher: pass the function that makes it, instead of a Method")
    row = row_of(method)
    if not row.needs_teacher:
        known = ", ".join(row.name for row in (*LANDSCAPE, *DISTRIBUTIONAL) if row.needs_teacher)
        raise ValueError(f"{row.name} learns from data alone and is no distillation method; these are: {known}")
    return row


def moved_on_policy(method: Method, row: Row, jumps: int, has_data: bool) -> Method:
    """Move terms of a method to the states of the student's own sampler.

    Args:
        method: The method.
        row: Its row.
        jumps: Number of jumps of the sampler.
        has_data: Whether data are given. Then only the terms that learn jumps move, else all terms.

    Returns:
        The method.

    Raises:
        ValueError: A term cannot start there.
    """
    start = (RestartedRollout if row.only_target == 0.0 else Rollout).of_jumps(jumps)
    return on_policy(method, start, which=off_diagonal if has_data else lambda term: True)


def guide_of_distillation(
    source: PretrainedSource,
    data: Data,
    guidance: Scales | None,
    interval: TimeInterval | None,
    negative_prompt: str | None,
    dropout: float,
) -> Guide:
    """Make the guidance of a distillation.

    Args:
        source: The pretrained model.
        data: Its data set.
        guidance: Scale, or range of scales. None: no guidance.
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
                raise ValueError(f"`{name}` applies to guidance: it needs `guidance`")
        return Guide(empty=empty, dropout=dropout)
    (low, high), times = scale_range(guidance), time_interval(interval)
    if SCALE not in source.takes:
        return Guide(low, high, times, source.null(data), empty, dropout, taught=True)
    if times != EVERYWHERE or negative_prompt is not None:
        raise ValueError(
            "this network takes the guidance scale itself, without an interval or a negative prompt: leave "
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
    """Make the flow map to train and its teacher; with LoRA both share the pretrained weights.

    Args:
        source: The pretrained model.
        row: The row of the method.
        guide: The guidance.
        times: Name of the time conditioning. None: "source" if the method learns maps to the data alone, else "added".
        lora: Rank of LoRA. None: all weights are trained.
        targets: Layers with LoRA. Empty: attention and feed-forward layers.
        checkpoint: Whether activations are recomputed in the backward pass.

    Returns:
        The flow map and the teacher's velocity.

    Raises:
        ValueError: The method cannot learn with this time conditioning, or targets are given without LoRA.
        ImportError: peft is missing.
    """
    chosen = times or ("source" if row.only_target == 0.0 else "added")
    if chosen == "source" and row.only_target != 0.0:
        raise ValueError(
            f"{row.name} learns jumps to every time, and `times=source` has no target time: use added or decoupled, or "
            "a method for maps to the data, such as lcm"
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
            raise ValueError("`lora_targets` names layers for `lora`: it needs `lora`")
        _forget_folder(flow)
        return flow, teacher
    from ..integrations import peft

    flow = peft.lora(flow, lora, targets=targets or None)
    return flow, peft.base_of(flow)


def _forget_folder(flow: FlowMap) -> None:
    """Forget the folder of the pipeline, which is not needed to load the flow map: checkpoints hold all weights."""
    if any(type(part).__name__ == "DiffusersNetwork" for part in flow.modules()):
        from ..integrations.diffusers.networks import forget_folder

        forget_folder(flow)


def source_of(folder: str | PathLike[str], options: SourceOptions) -> PretrainedSource:
    """Open a pretrained model.

    Args:
        folder: A run folder, the folder of a pipeline, or its name on the Hugging Face hub.
        options: Options of the model.

    Returns:
        The run if the folder is one, else the pipeline.

    Raises:
        ValueError: An option for pipelines is given with a run, or the folder is neither; a file is refused.
    """
    path = Path(folder)
    if path.is_file():
        raise ValueError(
            f"{folder} is a file, and distillation needs a run folder or a pipeline, with its data and its classes: "
            f"train on data with this flow map, fm.experiments.train(data, method=..., teacher={str(folder)!r}), or "
            f"flowmaps train DATA --teacher {folder}"
        )
    if not (path / "config.json").is_file() or (path / "model_index.json").is_file():
        from .pipeline_source import PipelineSource

        return PipelineSource(str(folder), options)
    for name in FOR_PIPELINES:
        if getattr(options, name):
            raise ValueError(f"`{name}` is for pipelines, and {folder} is a run or a single model")
    return RunSource(path, options)
