"""The distillation of a pretrained pipeline into a flow map: all settings except the data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import students
from ..flow_map import FlowMap
from ..guidance import classifier_free
from ..guidance.conditions import SCALE
from ..method.method import Method
from ..methods import Row
from ..networks.embeddings import TimeConditioning
from ..pretrained import Pretrained, Reading
from ..training.config import Precision
from .model import Model, default_dtype, move_to_cpu
from .planned import TrainingStep
from .rows import row_of, unbound

TIMES: Mapping[str, TimeConditioning] = {
    "added": students.added,
    "decoupled": students.decoupled,
    "source": students.source_only,
}
"""Time conditionings of a student by their names in `flowmaps distill --times`."""
NAME_OF_TIMES = {times: name for name, times in TIMES.items()}


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A run of `flowmaps distill`; `dataclasses.replace` makes a variant.

    Args:
        name: Name of the recipe.
        hub: Name of the pipeline on the Hugging Face hub.
        model: Its network.
        scheduler: Config of its scheduler, which defines the prediction of the network.
        shape: Shape of one latent.
        tokens: Number of tokens of a prompt.
        data: Description of the data to give it.
        method: A distillation method of `methods`, or a partial of one.
        times: Time conditioning of the student.
        steps: Number of training steps.
        batch_size: Number of rows of a batch, over all processes.
        lr: Learning rate.
        why: Reasons for the settings.
        where: Origin of the settings.
        lora: Rank of LoRA. None: all weights are trained.
        guidance: Scale of guidance to bake in, or the range of scales of a guidance-conditioned student. None: no
            guidance.
        checkpoint: Whether the layers store their inputs alone for the backward pass.
        ema: Decay of the average of the weights.
        clip: Largest gradient norm. None: no clipping.
        precision: "no" or "bf16".
    """

    name: str
    hub: str
    model: Model
    scheduler: Mapping[str, Any]
    shape: tuple[int, ...]
    tokens: int
    data: str
    method: Callable[..., Method]
    times: TimeConditioning
    steps: int
    batch_size: int
    lr: float
    why: str
    where: str = "ours: no paper has these, and nothing was trained at this size"
    lora: int | None = None
    guidance: tuple[float, float] | float | None = None
    checkpoint: bool = True
    ema: float = 0.999
    clip: float | None = 1.0
    precision: Precision = "bf16"

    @property
    def row(self) -> Row:
        """The method's row of the landscape."""
        return row_of(unbound(self.method))

    @property
    def guidance_conditioned(self) -> bool:
        """Whether the student takes a guidance scale, which is drawn for each row."""
        return isinstance(self.guidance, tuple) or (self.embeds_guidance and self.guidance is not None)

    @property
    def embeds_guidance(self) -> bool:
        """Whether the pretrained network takes the scale itself."""
        return bool(self.model.config.get("guidance_embeds"))

    @property
    def command(self) -> str:
        """The command line, without launcher or output options; replace DATA and PROMPTS."""
        given: dict[str, Any] = {
            "method": self.row.name,
            "data": "DATA",
            "prompts": "PROMPTS",
            "times": NAME_OF_TIMES[self.times],
        }
        numbers = getattr(self.method, "keywords", {}).items()
        given |= {"method-args": " ".join(f"{name}={value!r}" for name, value in numbers) or None}
        given |= {"lora": self.lora, "guidance": _scales(self.guidance), "steps": self.steps}
        given |= {"batch-size": self.batch_size, "lr": f"{self.lr:g}", "ema": f"{self.ema:g}", "clip": self.clip}
        given |= {"precision": self.precision}
        if self.row.data_free:
            del given["data"]
        options = [f"--{name} {value}" for name, value in given.items() if value is not None]
        return " ".join(["distill", self.hub, *options, *(["--checkpoint"] if self.checkpoint else [])])

    @property
    def source(self) -> str:
        """Name of the pipeline on the hub."""
        return self.hub

    @property
    def about(self) -> dict[str, str]:
        """The pipeline, the origin of the settings and their reasons."""
        return {"pipeline": self.hub, "settings": self.where, "why": self.why}

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `train`."""
        same = ("steps", "batch_size", "lr", "ema", "clip", "precision")
        return {"optimizer": None, **{name: getattr(self, name) for name in same}}

    def listed(self) -> dict[str, Any]:
        """All settings, for JSON."""
        found = asdict(replace(self, model=Model(self.model.class_name, {})))
        known: dict[str, Any] = {"model": {"class_name": self.model.class_name, "config": dict(self.model.config)}}
        known |= {"method": self.row.name, "times": NAME_OF_TIMES[self.times], "paper": self.row.paper.short}
        return found | known

    def checkpointed(self) -> Distillation:
        """The same run with activation checkpointing."""
        return replace(self, checkpoint=True)

    def by(self, row: Row, **arguments: Any) -> Distillation:
        """The same run by another method, or by its own with other arguments."""
        return replace(self, method=functools.partial(self.method if row == self.row else row.build, **arguments))

    def reading(self) -> Reading:
        """Interpretation of the network's prediction, from the config of the scheduler."""
        from ..integrations.diffusers.schedulers import reading

        return reading(self.scheduler)

    def student(self, teacher: Pretrained) -> FlowMap:
        """Make the flow map to train. Raises ImportError if LoRA is requested without peft."""
        conditions = (SCALE,) if self.guidance_conditioned and not self.embeds_guidance else ()
        flow = students.student(teacher, self.times, told=conditions)
        flow = FlowMap(
            flow.network, flow.output, flow.path, only_source=self.row.only_source, only_target=self.row.only_target
        )
        if self.checkpoint:
            from ..integrations.diffusers import checkpoint

            checkpoint(flow)
        if self.lora is None:
            return flow
        from ..integrations.peft import lora

        return lora(flow, self.lora)

    def build(self, teacher: Any, null: Mapping[str, Any]) -> Method:
        """Make the method.

        Args:
            teacher: The pretrained model.
            null: Conditions of the unconditional velocity in classifier-free guidance.

        Returns:
            The method, which learns from the guided teacher if guidance is requested and not built in.
        """
        if self.guidance is None or self.embeds_guidance:
            return self.method(teacher=teacher)
        scale = self.guidance if isinstance(self.guidance, float) else None
        return self.method(teacher=classifier_free(teacher, scale, null=null))

    def parts(self) -> list[tuple[int, Distillation]]:
        """A run with one layer of each kind, and for each kind one with two.

        Layers of a kind are equal after the first, so each adds the same cost.
        """
        counts = self.model.counts()
        few = dict.fromkeys(counts, 1)
        base = replace(self, model=self.model.with_layers(**few))
        each = [
            (count - 1, replace(self, model=self.model.with_layers(**{**few, name: 2})))
            for name, count in counts.items()
        ]
        return [(1 - sum(times for times, _ in each), base), *each]

    def without_memory(self) -> tuple[Pretrained, FlowMap]:
        """Teacher and student on the meta device. With LoRA the pretrained weights have the precision of the loss."""
        read, narrow = self.reading(), self.lora is not None and self.precision == "bf16"
        with torch.device("meta"), default_dtype(torch.bfloat16 if narrow else torch.float32):
            network = self.model.network()
        with torch.device("meta"):
            teacher = Pretrained(network, read)
            return teacher, self.student(teacher)

    def step(self, rows: int) -> Callable[[], TrainingStep]:
        """Prepare a training step, for a plan. With LoRA teacher and student share weights."""
        pretrained, flow = self.without_memory()
        teacher: Any = pretrained
        if self.lora is not None:
            from ..integrations.peft import base_of

            teacher = base_of(flow)

        def made() -> TrainingStep:
            move_to_cpu(flow, teacher)
            condition = placeholder_conditions(self, teacher.network, rows)
            method = self.build(teacher, null_conditions(condition))
            return TrainingStep(flow.train(), method, torch.zeros(rows, *self.shape), condition)

        return made


def placeholder_conditions(recipe: Distillation, network: nn.Module, rows: int) -> dict[str, Tensor]:
    """Make placeholder conditions of a batch, for a plan.

    Args:
        recipe: The distillation.
        network: The pretrained network, or a student of it.
        rows: Number of rows.

    Returns:
        Zeros (rows, ...) by name; a guidance scale is 1.
    """
    core: Any = next(part for part in network.modules() if hasattr(part, "needs"))
    condition = {
        name: torch.zeros(rows, *(recipe.tokens if n is None else n for n in size)) for name, size in core.needs.items()
    }
    return condition | ({SCALE: torch.ones(rows)} if recipe.guidance_conditioned else {})


def null_conditions(condition: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Null conditions of guidance, as in `flowmaps distill`: no prompt, at the same size and scale."""
    return {name: value[:1] for name, value in condition.items() if name not in ("size", SCALE)}


def _scales(guidance: tuple[float, float] | float | None) -> str | None:
    """The guidance as `flowmaps distill --guidance` reads it."""
    if guidance is None:
        return None
    return ":".join(f"{w:g}" for w in (guidance if isinstance(guidance, tuple) else (guidance,)))
