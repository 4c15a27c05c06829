"""A flow map as a folder of plain diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..flow_map import FlowMap
from .card import write_card
from .files import MARK, made_by, whole_or_absent, write_json
from .own import write_own

USE = """import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{where}", trust_remote_code=True)
images = pipeline({arguments}, num_inference_steps=1, generator=torch.manual_seed(0)).images"""


@dataclass(frozen=True)
class Run:
    """What is exported: the flow map, and what is known of how it was trained and how good it is."""

    flow: FlowMap
    name: str = "flow map"
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None


def to_diffusers(flow_or_run: FlowMap | Run | str | Path, folder: str | Path, base: str | Path | None = None) -> Path:
    """Write a pipeline folder that diffusers loads and samples without flowmaps:

        DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)(..., num_inference_steps=1)

    with its `FlowMapEulerDiscreteScheduler`, timesteps 1000 t. The folder holds the source of the network, its weights,
    a scheduler and a model card with what a run folder says of itself. base: the pipeline that the network came from,
    where that is not known; its other parts are copied. Either the folder is written whole or there is none; an earlier
    export is replaced. Raises FileExistsError where something else is there, ValueError for a network that cannot be
    written as source, and as `fm.load` for a run.
    """
    run = flow_or_run if isinstance(flow_or_run, Run) else read_run(flow_or_run)

    def write(beside: Path) -> None:
        shape = shape_of(run)
        image = is_image(run, shape)
        write_own(run.flow, beside, shape, image)
        told = classes_of(run.flow) is not None
        use = USE.format(where=Path(folder).name, arguments="class_labels=[0, 1]" if told else "batch_size=2")
        write_card(
            beside,
            title=run.name,
            use=use if image else use.replace(", generator", ', output_type="latent", generator'),
            task="unconditional-image-generation" if image else "other",
            config=run.config,
            evaluation=run.evaluation,
        )
        write_json(beside / MARK, {"format": 1, "kind": "pipeline", "flowmaps": made_by()})

    return whole_or_absent(folder, write)


def read_run(flow_or_run: FlowMap | str | Path, *, ema: bool = True) -> Run:
    """A flow map alone, or all that a run folder says of it. Raises as `fm.load`."""
    if isinstance(flow_or_run, FlowMap):
        return Run(flow_or_run)
    from ..training import load, read_config

    path = Path(flow_or_run)
    flow, config = load(path, ema=ema), read_config(path)
    if not (path / "evaluation.json").is_file():
        return Run(flow, path.resolve().name, config)
    from ..evaluate.folder import read_evaluation

    return Run(flow, path.resolve().name, config, read_evaluation(path))


def shape_of(run: Run) -> tuple[int, ...]:
    """The shape of one sample. Raises ValueError where nothing says it."""
    told = run.config.get("data", {}).get("shape")
    parts = [getattr(part, "shape", None) for part in run.flow.network.modules()]
    for shape in (told, *parts):
        if isinstance(shape, (tuple, list)):
            return tuple(shape)
    raise ValueError("the shape of a sample is not known: this network has no `shape`")


def is_image(run: Run, shape: tuple[int, ...]) -> bool:
    """Whether samples are images in [-1, 1]: what the data of the run was, or what it looks like."""
    kind = run.config.get("data", {}).get("kind")
    return (kind == "images" or kind is None) and len(shape) == 3 and shape[0] in (1, 3)


def classes_of(flow: FlowMap) -> int | None:
    """How many classes the network knows, None without labels."""
    found = [getattr(part, "classes", None) for part in flow.network.modules()]
    return next((count for count in found if isinstance(count, int)), None)


def example(run: Run) -> tuple[Tensor, dict[str, Tensor]]:
    """Noise and conditions of two rows, to trace the network with."""
    classes = classes_of(run.flow)
    return torch.randn(2, *shape_of(run)), {} if classes is None else {"label": torch.arange(2) % classes}
