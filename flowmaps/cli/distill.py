"""`flowmaps distill`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import guidance, students
from ..data import Data
from ..data.transforms import GuidanceScales, LabelDropout, TextDropout, Transform, transformed
from ..flow_map import FlowMap, GuidanceSpec
from ..guidance.conditions import SCALE
from ..methods import LANDSCAPE, Row
from ..networks.embeddings import TimeConditioning
from .arguments import method_arguments
from .models import for_row, row_of
from .options_distill import Distill
from .originals import Original, original
from .scales import interval_of, scales_of
from .tables import say
from .train import OWN, one_run

TIMES: dict[str, TimeConditioning] = {
    "added": students.added,
    "decoupled": students.decoupled,
    "source": students.source_only,
}
"""Beside the time where a jump starts, what each layer is shown of the time where it ends."""


def run_distill(options: Distill) -> None:
    """Distil, then say what to do next."""
    row = distiller(options.method)
    source = original(options)
    out = options.out or Path("runs") / f"{source.name}-{row.name}"
    data = source.data(row)
    scale = Scale.of(options, source, data)
    torch.manual_seed(options.seed)
    flow, teacher = student_of(options, row, source, scale)
    method = row.build(teacher=scale.teacher(teacher), **method_arguments(row.build, options.method_args))
    data = scale.data(data)
    if options.dry_run:
        from .dry_run import dry_run

        return dry_run(options, data, flow, method)
    own: dict[str, Any] = {name: getattr(options, name) for name in OWN}
    own["notes"] = notes_of(options, source) | scale.notes()
    if not one_run(options, data, flow, method, out, steps=options.steps, resume=options.resume, **own):
        say(f"The run in {out} is complete: there is nothing left to train.")
    say(f"Next:  flowmaps sample {out} -o samples.png    flowmaps export {out} FOLDER")


def distiller(name: str) -> Row:
    """The method of this name. Raises ValueError for one that learns from no teacher, with those that do."""
    row = row_of(name)
    if not row.needs_teacher:
        known = ", ".join(row.name for row in LANDSCAPE if row.needs_teacher)
        raise ValueError(f"{row.name} is no distillation method, it learns from data alone; those that distil: {known}")
    return row


@dataclass(frozen=True)
class Scale:
    """Guidance in distillation.

    low, high: the scale, drawn between these and told where they differ. null: the conditions that it compares with;
    empty: those of rows that are told nothing, a share `dropout` of all. built_in: the network takes the scale itself,
    as FLUX.1-dev does, so that there is nothing to compare.
    """

    low: float = 1.0
    high: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    null: dict[str, Any] | None = None
    empty: dict[str, Any] | None = None
    dropout: float = 0.0
    built_in: bool = False

    @classmethod
    def of(cls, options: Distill, source: Original, data: Data) -> Scale:
        """What was asked for. Raises ValueError for a model without a null class or prompt, for an interval of no
        guidance, and where a network that takes the scale itself cannot do it.
        """
        empty = source.empty(data) if options.dropout else None
        if options.guidance is None:
            for name in ("guidance_interval", "negative_prompt"):
                if getattr(options, name) is not None:
                    raise ValueError(f"--{name.replace('_', '-')} says how to guide: it needs --guidance")
            return cls(empty=empty, dropout=options.dropout)
        low, high = scales_of(options.guidance)
        interval = interval_of(options.guidance_interval)
        if SCALE not in source.takes:
            return cls(low, high, interval, source.null(data), empty, options.dropout)
        if interval != (0.0, 1.0) or options.negative_prompt is not None:
            raise ValueError(
                "this network is told the scale of its guidance, which knows no interval and no negative prompt: leave "
                "--guidance-interval and --negative-prompt out"
            )
        return cls(low, high, interval, None, empty, options.dropout, built_in=True)

    @property
    def is_drawn(self) -> bool:
        return self.low < self.high or self.built_in

    @property
    def told(self) -> tuple[str, ...]:
        """What the student has to be told beside the target time."""
        return (SCALE,) if self.low < self.high and not self.built_in else ()

    def teacher(self, teacher: Any) -> Any:
        """Its guided velocity, or the teacher itself."""
        if self.null is None:
            return teacher
        scale = None if self.told else self.low
        return guidance.classifier_free(teacher, scale, null=self.null, interval=self.interval)

    def data(self, data: Data) -> Data:
        """Training batches with some conditions left out, and with scales to be told."""
        changes: list[Transform] = []
        if self.empty is not None:
            label = self.empty.get("label")
            changes += [TextDropout(self.dropout, self.empty) if label is None else LabelDropout(self.dropout, label)]
        if self.is_drawn:
            changes += [GuidanceScales(self.low, self.high, null=self.empty)]
        return transformed(data, *changes) if changes else data

    def notes(self) -> dict[str, str]:
        known = {"label_dropout": f"{self.dropout:g}"} if self.dropout else {}
        if self.is_drawn or self.low != 1:
            known["guidance"] = f"{self.low:g}:{self.high:g}" if self.low < self.high else f"{self.low:g}"
        if self.interval != (0.0, 1.0):
            known["guidance_interval"] = "{:g}:{:g}".format(*self.interval)
        return known


def student_of(options: Distill, row: Row, source: Original, scale: Scale) -> tuple[FlowMap, Any]:
    """The flow map to train and the teacher: two networks, or with LoRA the same weights, with additions and without.

    Raises ValueError for times that the method cannot learn, and ImportError where LoRA has no peft.
    """
    chosen = options.times or ("source" if row.only_target == 0.0 else "added")
    if chosen == "source" and row.only_target != 0.0:
        raise ValueError(
            f"{row.name} learns jumps to every time, which --times source leaves out: take added or decoupled, or a "
            "method of maps to the data, such as lcm"
        )
    teacher = source.teacher()
    flow = for_row(students.student(teacher, TIMES[chosen], told=scale.told), row)
    if scale.built_in:
        flow.guidance = GuidanceSpec((scale.low, scale.high), kind="by the network itself")
    if options.checkpoint:
        from ..integrations.diffusers.places import checkpoint

        checkpoint(flow)
    if options.lora is None:
        if options.lora_targets:
            raise ValueError("--lora-targets says which layers --lora adds to: it needs --lora")
        forget(flow)
        return flow, teacher
    from ..integrations.peft import base_of, lora

    flow = lora(flow, options.lora, targets=options.lora_targets or None)
    return flow, base_of(flow)


def forget(flow: FlowMap) -> None:
    """Checkpoints will hold all weights, so that loading them needs the folder of the pipeline no more."""
    if any(type(part).__name__ == "DiffusersNetwork" for part in flow.modules()):
        from ..integrations.diffusers.networks import forget_folder

        forget_folder(flow)


def notes_of(options: Distill, source: Original) -> dict[str, str]:
    """For config.json."""
    asked = {name: str(value) for name in ("lora", "times", "component") if (value := getattr(options, name))}
    targets = {"lora_targets": " ".join(options.lora_targets)} if options.lora_targets else {}
    return {**source.notes, **asked, **targets}
