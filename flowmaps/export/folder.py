"""Write a flow map as a pipeline folder of diffusers, or its adapter alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..flow_map import FlowMap
from ..students import Student
from .card import Card, is_hub_name, write_card
from .files import write_folder
from .own import write_own
from .stock import network_of, write_student
from .words import in_python

if TYPE_CHECKING:
    from ..integrations.diffusers.folder import Saved

ADAPTER = "adapter"
"""The folder of the adapter inside the folder of a pipeline."""


@dataclass(frozen=True)
class Trained:
    """A flow map to export, with the records of its training.

    Attributes:
        flow: The flow map.
        name: Title of the model card.
        config: Content of the run's config.json; {} if unknown.
        evaluation: Content of the run's evaluation.json, if these weights were measured. None: not evaluated.
        base: The pipeline of its network, a folder or a name on the hub. None: no pipeline.
        weights: "step" and "ema" of the weights; {} if unknown.
        asked: Whether a person named the pipeline, so that it may be downloaded from the hub.
    """

    flow: FlowMap
    name: str = "flow map"
    config: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    base: str | None = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    asked: bool = False


Exportable = FlowMap | Trained | str | Path


def read_run(flow_or_run: Exportable, base: str | Path | None = None, *, ema: bool = True) -> Trained:
    """Read a run folder, or take a flow map without records.

    Args:
        flow_or_run: A flow map, a run folder, or an object that this function returned.
        base: The pipeline of its network, a folder or a name on the hub. None: found in the run or the network; a name
            on the hub that was found is read from the local cache alone.
        ema: Whether to load the averaged weights of a run.

    Returns:
        The flow map with its records.

    Raises:
        FileNotFoundError: The folder is not a run.
        ValueError: The run cannot be loaded.
    """
    if isinstance(flow_or_run, Trained):
        run = flow_or_run
    elif isinstance(flow_or_run, FlowMap):
        run = Trained(flow_or_run)
    else:
        run = _of_folder(Path(flow_or_run), ema)
    network = network_of(run.flow)
    known = run.config.get("notes", {}).get("folder") or (network and network._arguments["folder"])
    found = base or run.base or known
    return replace(run, base=None if found is None else str(found), asked=base is not None or run.asked)


def _of_folder(path: Path, ema: bool) -> Trained:
    from ..runs.folder import read_config
    from ..runs.loading import load_with_step
    from ..runs.records import read_evaluation

    loaded = load_with_step(path, ema=ema)
    run = Trained(loaded.flow, path.resolve().name, read_config(path), weights=loaded.about)
    # averaged weights alone are evaluated
    return replace(run, evaluation=read_evaluation(path, loaded.step)) if ema else run


def to_diffusers(flow_or_run: Exportable, folder: str | Path, base: str | Path | None = None) -> Path:
    """Write a pipeline folder that diffusers loads and samples without flowmaps.

        DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)(..., num_inference_steps=1)

    It samples with `FlowMapEulerDiscreteScheduler`, timesteps 1000 t. The folder holds the source of the network, its
    weights, a scheduler and a model card; for the student of a diffusers pipeline also the other components of that
    pipeline. LoRA is merged into the weights, and also stored alone in `adapter`. The folder is written atomically.

    Args:
        flow_or_run: A flow map, or a run folder.
        folder: The folder to write; an earlier export is replaced.
        base: The pipeline of a student's network, a folder or a name on the hub. None: found in the run or the network;
            a name on the hub that was found is read from the local cache alone.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds something else than an export.
        ValueError: For a network that cannot become a pipeline, and a pipeline with components that are not known, or
            whose files are links; and the errors of `fm.load` for a run.
    """
    run = read_run(flow_or_run, base)
    return write_folder(folder, "pipeline", lambda beside: _write_pipeline(run, beside, Path(folder).name))


def adapter(flow_or_run: Exportable, folder: str | Path, base: str | Path | None = None) -> Path:
    """Write the LoRA adapter of a run alone, with a model card.

    The folder holds `pytorch_lora_weights.safetensors` in diffusers' format and a student's new embeddings;
    `integrations.peft.load_adapter` reads both.

    Args:
        flow_or_run: A flow map with LoRA, or a run folder.
        folder: The folder to write; an earlier export is replaced.
        base: The pipeline of its network, a folder or a name on the hub. None: found in the run or the network.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds something else than an export.
        ValueError: For a flow map without an adapter; and the errors of `fm.load` for a run.
    """
    run = read_run(flow_or_run, base)

    def write(beside: Path) -> None:
        from ..integrations.peft import save_adapter

        save_adapter(run.flow, beside)
        use = _use_of_adapter(run, Path(folder).name)
        write_card(beside, Card(use, "text-to-image"), run.name, run.config, run.evaluation, run.base, run.weights)

    return write_folder(folder, "adapter", write)


def _write_pipeline(run: Trained, folder: Path, name: str) -> None:
    flow, image = run.flow, is_image(run)
    if type(flow.network).__name__ == "Adapted":
        from ..integrations.peft import merged, save_adapter

        save_adapter(flow, folder / ADAPTER)
        flow = merged(flow)
    shape = shape_of(run)
    if network_of(flow) is not None:
        family = write_student(flow, folder, pipeline_of(run), shape)
        call, task = family.call, family.task
    elif shape is None:
        raise ValueError("the shape of a sample is unknown: this network has no `shape`")
    else:
        write_own(flow, folder, shape, image)
        call = "batch_size=2" if classes_of(flow) is None else "class_labels=[0, 1]"
        call += "" if image else ', output_type="latent"'
        task = "unconditional-image-generation" if image else "other"
    guidance = ", guidance_scale=2.0" if "guidance" in getattr(flow.network, "told", ()) else ""
    result = "frames" if task == "text-to-video" else "images"
    use = (
        "import torch\nfrom diffusers import DiffusionPipeline\n\n"
        f"pipeline = DiffusionPipeline.from_pretrained({in_python(name)}, trust_remote_code=True)\n"
        f"noise = torch.Generator().manual_seed(0)\n"
        f"{result} = pipeline({call}, num_inference_steps=1{guidance}, generator=noise).{result}"
    )
    write_card(folder, Card(use, task), run.name, run.config, run.evaluation, run.base, run.weights)


def _use_of_adapter(run: Trained, name: str) -> str:
    student: Any = run.flow.network
    conditions = f", told={student.network.told}" if student.network.told else ""
    base = run.base if run.base is not None and is_hub_name(run.base) else Path(run.base or "base").name
    return (
        "import flowmaps as fm\nfrom flowmaps.integrations.diffusers import teacher\n"
        "from flowmaps.integrations.peft import load_adapter\n\n"
        f"student = fm.student(teacher({in_python(base)}){conditions})\n"
        f"flow = load_adapter(student, {in_python(name)})"
    )


def pipeline_of(run: Trained) -> Saved | None:
    """Open the pipeline of the network; None if it is unknown. Only one that a person named may be downloaded."""
    if run.base is None:
        return None
    from ..integrations.diffusers.folder import Saved, opened

    found = opened(run.base, online=run.asked)
    assert isinstance(found, Saved)
    return found


def shape_of(run: Trained) -> tuple[int, ...] | None:
    """Find the shape of one sample in the run's data or the network; None if it is unknown."""
    found = [run.config.get("data", {}).get("shape"), *(getattr(part, "shape", None) for part in run.flow.modules())]
    network = network_of(run.flow)
    side = None if network is None else getattr(network.model.config, "sample_size", None)
    if side is not None:
        found.append((network.channels, *(side if isinstance(side, (tuple, list)) else (side, side))))
    return next((tuple(shape) for shape in found if isinstance(shape, (tuple, list))), None)


def is_image(run: Trained) -> bool:
    """Tell whether samples are images in [-1, 1], from the run's data, or from the shape if they are unknown."""
    kind, shape = run.config.get("data", {}).get("kind"), shape_of(run) or ()
    return kind in (None, "images") and len(shape) == 3 and shape[0] in (1, 3)


def classes_of(flow: FlowMap) -> int | None:
    """Count the classes of the network; None without labels."""
    found = [getattr(part, "classes", None) for part in flow.network.modules()]
    return next((count for count in found if isinstance(count, int)), None)


def example(run: Trained) -> tuple[Tensor, dict[str, Tensor]]:
    """Make noise and conditions of two rows, to trace the network.

    Args:
        run: The flow map with its records.

    Returns:
        Noise (2, *shape) and conditions by name.

    Raises:
        ValueError: If the shape of a sample is not known.
    """
    shape, network = shape_of(run), network_of(run.flow)
    if shape is None:
        raise ValueError("the shape of a sample is unknown: call to_onnx or to_program with an example of the noise")
    needs = {} if network is None else network.needs
    given: dict[str, Tensor] = {}
    if "text" in needs:
        from ..integrations.diffusers import Texts

        given = Texts(pipeline_of(run)).encode(["", ""])
    classes = classes_of(run.flow) if network is None else None
    if "label" in needs or classes is not None:
        given["label"] = torch.arange(2) % (classes or 2)
    names = next((part.told for part in run.flow.modules() if isinstance(part, Student)), ())
    given |= {name: torch.tensor([1.0, 0.75]) for name in names}
    return torch.randn(2, *shape), given
