"""Write a student of a diffusers pipeline as a pipeline of diffusers, with the other components copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..flow_map import FlowMap
from ..serialise import describe
from ..students import Student
from .code import Code, names_in
from .copying import copied
from .files import write_index, write_model
from .own import local_names, noise_scale, time_layers

if TYPE_CHECKING:
    from ..integrations.diffusers.folder import Saved


@dataclass(frozen=True)
class Family:
    """The call of a pipeline.

    Attributes:
        component: The component that is the network.
        task: The hub's name of the task.
        call: Arguments of a first call.
        scale: The `guidance_scale` without guidance in sampling.
        variance: Whether the pipeline itself leaves out a learned variance in the output of its network.
    """

    component: str
    task: str
    call: str
    scale: float = 1.0
    variance: bool = False


PROMPT = '"a prompt"'
FAMILIES = {
    "StableDiffusionPipeline": Family("unet", "text-to-image", PROMPT),
    "StableDiffusionXLPipeline": Family("unet", "text-to-image", PROMPT),
    "DiTPipeline": Family("transformer", "unconditional-image-generation", "class_labels=[0, 1]", variance=True),
    "StableDiffusion3Pipeline": Family("transformer", "text-to-image", PROMPT),
    "FluxPipeline": Family("transformer", "text-to-image", PROMPT, 3.5),
    "PixArtAlphaPipeline": Family("transformer", "text-to-image", PROMPT, variance=True),
    "PixArtSigmaPipeline": Family("transformer", "text-to-image", PROMPT, variance=True),
    "WanPipeline": Family("transformer", "text-to-video", PROMPT),
}
"""Pipelines of diffusers by their class."""


def network_of(flow: FlowMap) -> Any:
    """Find the network of diffusers in a flow map; None if there is none."""
    return next((part for part in flow.modules() if type(part).__name__ == "DiffusersNetwork"), None)


def write_student(flow: FlowMap, folder: Path, base: Saved | None, shape: tuple[int, ...] | None) -> Family:
    """Write network, scheduler and pipeline, and copy the other components.

    Args:
        flow: A student with a network of diffusers.
        folder: The folder of the pipeline.
        base: The pipeline of the network. None: for networks without other components.
        shape: Shape of one sample. None: unknown.

    Returns:
        The call of the pipeline.

    Raises:
        ValueError: For a flow map that is not a student, an unknown pipeline, a missing one, and one with components
            that are not known.
    """
    if not isinstance(flow.network, Student) or flow.network.reading is None:
        raise ValueError(
            "a network of diffusers becomes a pipeline folder as the student of a teacher, fm.student(...), but this "
            f"flow map has a {type(flow.network).__name__} around it"
        )
    network = network_of(flow)
    if network.class_name == "UNet2DModel":
        call = "class_labels=[0, 1]" if network.needs else "batch_size=2"
        family = Family("unet", "unconditional-image-generation", call)
        code, others = _of_unet(base, folder)
    elif base is None:
        raise ValueError("the pipeline of this network is unknown: pass its folder as base= (--base)")
    else:
        family = family_of(base.index["_class_name"])
        code, others = Code("stock_pipeline", stock=base.index["_class_name"]), copied(base, folder, family.component)
    model = write_network(flow, folder / family.component, shape, family)
    write_index(folder, [code.write(folder), code.defines], {**others, family.component: model}, flow)
    return family


def _of_unet(base: Saved | None, folder: Path) -> tuple[Code, dict[str, Any]]:
    """Choose the pipeline of a UNet2DModel, and copy the autoencoder of its latents if there is one.

    Raises:
        ValueError: If the pipeline has other components than an LDMPipeline, and an autoencoder.
    """
    from ..integrations.diffusers.autoencoders import autoencoder

    vae = None if base is None else autoencoder(base)
    if base is None or vae is None:
        return Code("unet_pipeline"), {}
    if base.index["_class_name"] != "LDMPipeline" or vae != "vqvae":
        raise ValueError(
            f"the latents of this network are decoded by the {vae} of a {base.index['_class_name']}, and a UNet2DModel "
            "with an autoencoder becomes a pipeline folder for an LDMPipeline alone: fm.export.to_onnx and "
            "fm.export.to_program write its one-step sampler"
        )
    return Code("latent_unet_pipeline"), copied(base, folder, "unet")


def family_of(pipeline: Any) -> Family:
    """Find the call of a pipeline by its class.

    Raises:
        ValueError: For a pipeline that is not in FAMILIES.
    """
    if not isinstance(pipeline, str) or pipeline not in FAMILIES:
        raise ValueError(f"a flow map cannot be put into a {pipeline}; known are {', '.join(FAMILIES)}")
    return FAMILIES[pipeline]


def write_network(flow: FlowMap, folder: Path, shape: tuple[int, ...] | None, family: Family) -> list[str]:
    """Write config.json, weights and source of the network.

    Args:
        flow: The student.
        folder: The folder of the component.
        shape: Shape of one sample. None: unknown.
        family: The call of the pipeline.

    Returns:
        Its entry of model_index.json, module and class.
    """
    student: Any = flow.network
    network = network_of(flow)
    described = {"reading": describe(student.reading), "student": student_arguments(student)}
    code = Code("model", tuple(names_in(described)), network.class_name)
    # beside the student's own guidance condition the model's embedded guidance keeps its default
    own_guidance = "guidance" in student.told and bool(network.model.config.get("guidance_embeds"))
    flow_map = {
        **local_names(described),
        "clock": 1000.0 if network.class_name == "FluxTransformer2DModel" else 1.0,
        "fixed": {"guidance": family.scale} if own_guidance else {},
        "only": [flow.only_source, flow.only_target],
        "guided": flow.guided,
        "variance": family.variance,
        "scale": family.scale,
    }
    config = {key: value for key, value in network.model.config.items() if key[0] != "_"}
    image = shape is not None and len(shape) == 3 and shape[0] in (1, 3)
    own = {"flow_map": flow_map, "shape": shape and list(shape), "image": image}
    if flow.units is not None:
        raise ValueError(
            "a map of standardised data becomes no pipeline of diffusers: write the one-step sampler, --onnx"
        )
    weights = {**network.model.state_dict(), **_part("new", student.new), **_part("tame", student.tame)}
    write_model(folder, {"_class_name": code.defines, **config, **own, "noise_scale": noise_scale(flow)}, weights)
    return [code.write(folder), code.defines]


def student_arguments(student: Student) -> dict[str, Any]:
    """Describe the arguments of a student, besides the network and its reading."""
    return {
        "times": describe(student.times),
        "told": list(student.told),
        "tame": student.tame is not None,
        "places": describe(time_layers(student)),
    }


def _part(name: str, module: nn.Module | None) -> dict[str, Tensor]:
    """Return the weights of a new part of a student, by their names in FlowMapModel."""
    return {} if module is None else {f"flow_map_{name}.{key}": value for key, value in module.state_dict().items()}
