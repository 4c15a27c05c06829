"""A distillation: all that turning a pretrained pipeline into a flow map is made of but the data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import students
from ..flow_map import FlowMap
from ..guidance import classifier_free
from ..guidance.conditions import SCALE
from ..method.method import Method
from ..methods import LANDSCAPE, Row
from ..networks.embeddings import TimeConditioning
from ..pretrained import Pretrained, Reading
from ..training.config import Precision
from .model import Model
from .planned import Step

TIMES: Mapping[TimeConditioning, str] = {
    students.added: "added",
    students.decoupled: "decoupled",
    students.source_only: "source",
}
"""What `flowmaps distill --times` calls them."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A run of `flowmaps distill`; a value, so `dataclasses.replace` makes another one of it.

    - hub: name of the pipeline on the Hugging Face hub; model: its network; scheduler: the config that says what that
      predicts; shape of one latent; tokens of a prompt
    - data: what to give it, in words
    - method: a function of `methods` that distils; times, lora, guidance, checkpoint: as for `flowmaps distill`, with
      guidance a scale that is baked in, or a range that the student is told a scale of
    - steps, batch_size (of all processes), lr, ema, clip, precision: as for `train`
    - where: what the settings are from; why: why these
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
        bare = self.method.func if isinstance(self.method, functools.partial) else self.method
        return next(row for row in LANDSCAPE if row.build is bare)

    @property
    def told(self) -> bool:
        """Whether a scale is drawn for each row."""
        return isinstance(self.guidance, tuple) or (self.built_in and self.guidance is not None)

    @property
    def built_in(self) -> bool:
        """Whether the pretrained network takes the scale itself."""
        return bool(self.model.config.get("guidance_embeds"))

    @property
    def command(self) -> str:
        """Of flowmaps; DATA and PROMPTS are yours."""
        given: dict[str, Any] = {
            "method": self.row.name,
            "data": "DATA",
            "prompts": "PROMPTS",
            "times": TIMES[self.times],
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
        """The pipeline."""
        return self.hub

    @property
    def said(self) -> dict[str, str]:
        """Where it is from and why it is so, in words."""
        return {"pipeline": self.hub, "settings": self.where, "why": self.why}

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `train`."""
        same = ("steps", "batch_size", "lr", "ema", "clip", "precision")
        return {"optimizer": None, **{name: getattr(self, name) for name in same}}

    def listed(self) -> dict[str, Any]:
        """All of its settings, for JSON."""
        found = asdict(replace(self, model=Model(self.model.class_name, {})))
        known = {"model": {"class_name": self.model.class_name, "config": dict(self.model.config)}}
        return {**found, **known, "method": self.row.name, "times": TIMES[self.times], "paper": self.row.paper.short}

    def checkpointed(self) -> Distillation:
        """The same run with layers that keep their inputs alone."""
        return replace(self, checkpoint=True)

    def by(self, row: Row, **arguments: Any) -> Distillation:
        """The same run by another method, or by its own with other arguments."""
        return replace(self, method=functools.partial(self.method if row is self.row else row.build, **arguments))

    def reading(self) -> Reading:
        """How the network is read."""
        from ..integrations.diffusers.schedulers import reading

        return reading(self.scheduler)

    def student(self, teacher: Pretrained) -> FlowMap:
        """The flow map to train. Raises ImportError where LoRA has no peft."""
        told = (SCALE,) if self.told and not self.built_in else ()
        flow = students.student(teacher, self.times, told=told)
        flow = FlowMap(
            flow.network, flow.output, flow.path, only_source=self.row.only_source, only_target=self.row.only_target
        )
        if self.checkpoint:
            from ..integrations.diffusers.places import checkpoint

            checkpoint(flow)
        if self.lora is None:
            return flow
        from ..integrations.peft import lora

        return lora(flow, self.lora)

    def build(self, teacher: Any, null: Mapping[str, Any]) -> Method:
        """The method, with its teacher guided away from the conditions `null`."""
        if self.guidance is None or self.built_in:
            return self.method(teacher=teacher)
        scale = self.guidance if isinstance(self.guidance, float) else None
        return self.method(teacher=classifier_free(teacher, scale, null=null))

    def parts(self) -> list[tuple[int, Distillation]]:
        """One of a single layer of each kind, and for each kind one of two: after the first, layers are equal, so that
        each adds the same.
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
        """The teacher and the student on the meta device. With LoRA the pretrained weights are in bf16 where the loss
        is.
        """
        read, narrow = self.reading(), self.lora is not None and self.precision == "bf16"
        with torch.device("meta"), _default(torch.bfloat16 if narrow else torch.float32):
            network = self.model.network()
        with torch.device("meta"):
            teacher = Pretrained(network, read)
            return teacher, self.student(teacher)

    def step(self, rows: int) -> Callable[[], Step]:
        """A function that makes a step of so many rows, for a plan. With LoRA teacher and student share weights."""
        teacher, flow = self.without_memory()
        asked: Any = teacher if self.lora is None else _base_of(flow)

        def made() -> Step:
            _on_the_cpu(flow, asked)
            condition = condition_of(self, asked.network, rows)
            method = self.build(asked, null_of(condition))
            return Step(flow.train(), method, torch.zeros(rows, *self.shape), condition)

        return made


def _base_of(flow: FlowMap) -> Any:
    from ..integrations.peft import base_of

    return base_of(flow)


def _on_the_cpu(*modules: nn.Module) -> None:
    """New tensors on the CPU for those on the meta device, one for each also where several modules have it."""
    new: dict[Tensor, Tensor] = {}
    for part in (part for module in modules for part in module.modules()):
        for name, old in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if old not in new:
                empty = torch.empty_like(old, device="cpu")
                new[old] = nn.Parameter(empty, old.requires_grad) if isinstance(old, nn.Parameter) else empty
            setattr(part, name, new[old])


def condition_of(recipe: Distillation, network: nn.Module, rows: int) -> dict[str, Tensor]:
    """What a batch tells a network of diffusers or a student of one, all zero; a scale of guidance is 1."""
    core: Any = next(part for part in network.modules() if hasattr(part, "needs"))
    condition = {
        name: torch.zeros(rows, *(recipe.tokens if n is None else n for n in size)) for name, size in core.needs.items()
    }
    return condition | ({SCALE: torch.ones(rows)} if recipe.told else {})


def null_of(condition: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What guidance puts in their place, as `flowmaps distill` does: no prompt, at the same size and scale."""
    return {name: value[:1] for name, value in condition.items() if name not in ("size", SCALE)}


def _scales(guidance: tuple[float, float] | float | None) -> str | None:
    return (
        guidance
        if guidance is None
        else ":".join(f"{w:g}" for w in guidance)
        if isinstance(guidance, tuple)
        else f"{guidance:g}"
    )


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """New weights are of this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
