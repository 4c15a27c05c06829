"""The time layers of the models of diffusers, by which `fm.student` gives them a second time."""

from __future__ import annotations

from typing import Any

from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from ...flow_map import FlowMap
from ...students import Student, TimeLayers


def unet(model: Any) -> TimeLayers:
    """Time layers of a U-Net: its residual blocks."""
    ways = ("down_blocks.", "mid_block.", "up_blocks.")
    blocks = [name for name, part in model.named_modules() if isinstance(part, ResnetBlock2D)]
    return TimeLayers(
        "time_embedding",
        layers=[name for way in ways for name in blocks if name.startswith(way)],
        features="time_proj",
        projection="time_embed_act" if getattr(model, "time_embed_act", None) is not None else (),
    )


def dit(model: Any) -> TimeLayers:
    """Time layers of DiT: each block has its own embedding, and the output layer calls the one of the first block."""
    combined = "transformer_blocks.*.norm1.emb"
    embedding, features = f"{combined}.timestep_embedder", f"{combined}.time_proj"
    return TimeLayers(embedding, layers="transformer_blocks.*", argument="", features=features)


def pixart(model: Any) -> TimeLayers:
    """Time layers of PixArt."""
    return TimeLayers(
        "adaln_single.emb.timestep_embedder",
        layers="transformer_blocks.*",
        argument="timestep",
        features="adaln_single.emb.time_proj",
        projection=("adaln_single.silu", "adaln_single.linear"),
        head=("adaln_single", 1),
    )


def joint(model: Any) -> TimeLayers:
    """Time layers of SD3 and Flux; their output layer names the embedding differently than the blocks."""
    single = ("single_transformer_blocks.*",) if len(getattr(model, "single_transformer_blocks", ())) else ()
    return TimeLayers(
        "time_text_embed.timestep_embedder",
        layers=("transformer_blocks.*", *single, "norm_out"),
        argument=("temb", "conditioning_embedding"),
        features="time_text_embed.time_proj",
    )


def wan(model: Any) -> TimeLayers:
    """Time layers of Wan."""
    return TimeLayers(
        "condition_embedder.time_embedder",
        layers="blocks.*",
        features="condition_embedder.timesteps_proj",
        projection=("condition_embedder.act_fn", "condition_embedder.time_proj"),
        head=("condition_embedder", 0),
    )


TIME_LAYERS = {
    "UNet2DModel": unet,
    "UNet2DConditionModel": unet,
    "DiTTransformer2DModel": dit,
    "PixArtTransformer2DModel": pixart,
    "SD3Transformer2DModel": joint,
    "FluxTransformer2DModel": joint,
    "WanTransformer3DModel": wan,
}


def time_layers(model: nn.Module) -> TimeLayers:
    """Find the time layers of a model of diffusers; a network around it uses `time_layers(model).below("its name")`.

    Raises:
        ValueError: For a class that is not in `TIME_LAYERS`.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in TIME_LAYERS:
            return TIME_LAYERS[kind.__name__](model)
    raise ValueError(
        f"the time layers of {type(model).__name__} are not known: pass student(places=students.TimeLayers(...)); "
        f"known are {', '.join(TIME_LAYERS)}"
    )


def checkpoint(flow: FlowMap) -> FlowMap:
    """Checkpoint the layers of the diffusers models in a student: less memory, recomputed in the backward pass.

    Args:
        flow: A student, changed in place.

    Returns:
        The student.

    Raises:
        TypeError: For a flow map that is not a student.
        ValueError: If it has no model that can recompute its layers.
    """
    if not isinstance(student := flow.network, Student):
        raise TypeError(f"expected a flow map made by fm.student, got one around a {type(student).__name__}")
    able: list[Any] = [part for part in student.modules() if hasattr(part, "enable_gradient_checkpointing")]
    if not able:
        raise ValueError("this student has no model of diffusers that can compute its layers again")
    for model in able:
        model.enable_gradient_checkpointing(student.checkpointed)
    return flow
