"""A flow map as a folder of plain diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..flow_map import FlowMap
from ..students import Student
from .card import Card, is_hub_name, write_card
from .files import MARK, made_by, whole_or_absent, write_json
from .own import write_own
from .stock import network_of, write_student

ADAPTER = "adapter"
"""The folder of the adapter in that of a pipeline."""


@dataclass(frozen=True)
class Run:
    """What is exported: the flow map, and what is known of how it was trained and how good it is. base: the pipeline
    that its network came from, a folder or a name on the hub.
    """

    flow: FlowMap
    name: str = "flow map"
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    base: str | None = None


def read_run(flow_or_run: FlowMap | Run | str | Path, base: str | Path | None = None, *, ema: bool = True) -> Run:
    """A flow map alone, or all that a run folder says of it. Raises as `fm.load`."""
    if isinstance(flow_or_run, Run):
        run = flow_or_run
    elif isinstance(flow_or_run, FlowMap):
        run = Run(flow_or_run)
    else:
        run = _of_folder(Path(flow_or_run), ema)
    network = network_of(run.flow)
    known = run.config.get("notes", {}).get("folder") or (network and network._arguments["folder"])
    return replace(run, base=str(base or run.base or known) if base or run.base or known else None)


def _of_folder(path: Path, ema: bool) -> Run:
    from ..runs.folder import read_config
    from ..runs.loading import load

    run = Run(load(path, ema=ema), path.resolve().name, read_config(path))
    if not (path / "evaluation.json").is_file():
        return run
    from ..experiments.evaluation import read_evaluation

    return replace(run, evaluation=read_evaluation(path))


def to_diffusers(flow_or_run: FlowMap | Run | str | Path, folder: str | Path, base: str | Path | None = None) -> Path:
    """Write a pipeline folder that diffusers loads and samples without flowmaps:

        DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)(..., num_inference_steps=1)

    with its `FlowMapEulerDiscreteScheduler`, timesteps 1000 t. The folder holds the source of the network, its weights,
    a scheduler and a model card with what a run says of itself; of a student of a pipeline of diffusers also the other
    parts of that pipeline, `base` (a folder or a name on the hub), which is found where the network says it. LoRA is
    put into the weights, and is there by itself in `adapter`.

    Either the folder is written whole or there is none; an earlier export is replaced. Raises FileExistsError where
    something else is there, ValueError for a network that cannot be written so, and as `fm.load` for a run.
    """
    run = read_run(flow_or_run, base)
    return whole_or_absent(folder, lambda beside: _write_pipeline(run, beside, Path(folder).name))


def adapter(flow_or_run: FlowMap | Run | str | Path, folder: str | Path, base: str | Path | None = None) -> Path:
    """Write the adapter of a run that was trained with LoRA, and nothing else: `pytorch_lora_weights.safetensors`, as
    diffusers has it, and what is new in a student (`integrations.peft.load_adapter` reads both), with a model card.

    Raises as `to_diffusers`, and ValueError for a flow map without an adapter.
    """
    run = read_run(flow_or_run, base)

    def write(beside: Path) -> None:
        from ..integrations.peft import save_adapter

        save_adapter(run.flow, beside)
        use = _use_of_adapter(run, Path(folder).name)
        _finish(run, beside, "adapter", Card(use, "text-to-image"))

    return whole_or_absent(folder, write)


def _write_pipeline(run: Run, folder: Path, name: str) -> None:
    flow, image = run.flow, is_image(run)
    if type(flow.network).__name__ == "Adapted":
        from ..integrations.peft import merged, save_adapter

        save_adapter(flow, folder / ADAPTER)
        flow = merged(flow)
    shape = shape_of(run)
    if network_of(flow) is not None:
        family = write_student(flow, folder, local(run.base), shape)
        call, task = family.call, family.task
    elif shape is None:
        raise ValueError("the shape of a sample is not known: this network has no `shape`")
    else:
        write_own(flow, folder, shape, image)
        call = "batch_size=2" if classes_of(flow) is None else "class_labels=[0, 1]"
        call += "" if image else ', output_type="latent"'
        task = "unconditional-image-generation" if image else "other"
    told = ", guidance_scale=2.0" if "guidance" in getattr(flow.network, "told", ()) else ""
    result = "frames" if task == "text-to-video" else "images"
    use = (
        "import torch\nfrom diffusers import DiffusionPipeline\n\n"
        f'pipeline = DiffusionPipeline.from_pretrained("{name}", trust_remote_code=True)\n'
        f"noise = torch.Generator().manual_seed(0)\n"
        f"{result} = pipeline({call}, num_inference_steps=1{told}, generator=noise).{result}"
    )
    _finish(run, folder, "pipeline", Card(use, task))


def _use_of_adapter(run: Run, name: str) -> str:
    student: Any = run.flow.network
    told = f", told={student.network.told}" if student.network.told else ""
    base = run.base if run.base is not None and is_hub_name(run.base) else Path(run.base or "base").name
    return (
        "import flowmaps as fm\nfrom flowmaps.integrations.diffusers import teacher\n"
        "from flowmaps.integrations.peft import load_adapter\n\n"
        f'student = fm.student(teacher("{base}"){told})\nflow = load_adapter(student, "{name}")'
    )


def _finish(run: Run, folder: Path, kind: str, card: Card) -> None:
    write_card(folder, card, run.name, run.config, run.evaluation, run.base)
    write_json(folder / MARK, {"format": 1, "kind": kind, "flowmaps": made_by()})


def local(base: str | None) -> Path | None:
    """The folder of a pipeline; from the hub all but its network."""
    if base is None or Path(base).is_dir():
        return None if base is None else Path(base)
    import diffusers

    from ..integrations.diffusers.errors import explained

    download: Any = diffusers.DiffusionPipeline.download
    with explained(base):
        return Path(download(base, unet=None, transformer=None))


def shape_of(run: Run) -> tuple[int, ...] | None:
    """The shape of one sample, where something says it."""
    told = [run.config.get("data", {}).get("shape"), *(getattr(part, "shape", None) for part in run.flow.modules())]
    network = network_of(run.flow)
    side = None if network is None else getattr(network.model.config, "sample_size", None)
    if side is not None:
        told.append((network.channels, *(side if isinstance(side, (tuple, list)) else (side, side))))
    return next((tuple(shape) for shape in told if isinstance(shape, (tuple, list))), None)


def is_image(run: Run) -> bool:
    """Whether samples are images in [-1, 1]: what the data of the run was, or what it looks like."""
    kind, shape = run.config.get("data", {}).get("kind"), shape_of(run) or ()
    return kind in (None, "images") and len(shape) == 3 and shape[0] in (1, 3)


def classes_of(flow: FlowMap) -> int | None:
    """How many classes the network knows, None without labels."""
    found = [getattr(part, "classes", None) for part in flow.network.modules()]
    return next((count for count in found if isinstance(count, int)), None)


def example(run: Run) -> tuple[Tensor, dict[str, Tensor]]:
    """Noise and conditions of two rows, to trace the network with. Raises ValueError where its shape is not known."""
    shape, network = shape_of(run), network_of(run.flow)
    if shape is None:
        raise ValueError("the shape of a sample is not known: call to_onnx or to_program with an example of the noise")
    needs = {} if network is None else network.needs
    given: dict[str, Tensor] = {}
    if "text" in needs:
        from ..integrations.diffusers import Texts

        given = Texts(local(run.base)).encode(["", ""])
    classes = classes_of(run.flow) if network is None else None
    if "label" in needs or classes is not None:
        given["label"] = torch.arange(2) % (classes or 2)
    told = next((part.told for part in run.flow.modules() if isinstance(part, Student)), ())
    given |= {name: torch.tensor([1.0, 0.75]) for name in told}
    return torch.randn(2, *shape), given
