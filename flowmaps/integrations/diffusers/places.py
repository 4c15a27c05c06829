"""Where the models of diffusers learn the time, so that `fm.student` can give them a second one."""

from __future__ import annotations

from typing import Any

from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from ...flow_map import FlowMap
from ...students import Places, Student


def unet(model: Any) -> Places:
    """Layers are the residual blocks."""
    ways = ("down_blocks.", "mid_block.", "up_blocks.")
    blocks = [name for name, part in model.named_modules() if isinstance(part, ResnetBlock2D)]
    return Places(
        "time_embedding",
        layers=[name for way in ways for name in blocks if name.startswith(way)],
        features="time_proj",
        projection="time_embed_act" if getattr(model, "time_embed_act", None) is not None else (),
    )


def dit(model: Any) -> Places:
    """Each block has an embedding of its own, and the output layer asks that of the first block."""
    combined = "transformer_blocks.*.norm1.emb"
    embedding, features = f"{combined}.timestep_embedder", f"{combined}.time_proj"
    return Places(embedding, layers="transformer_blocks.*", argument="", features=features)


def pixart(model: Any) -> Places:
    return Places(
        "adaln_single.emb.timestep_embedder",
        layers="transformer_blocks.*",
        argument="timestep",
        features="adaln_single.emb.time_proj",
        projection=("adaln_single.silu", "adaln_single.linear"),
        head=("adaln_single", 1),
    )


def joint(model: Any) -> Places:
    """SD3 and Flux, whose output layer calls the embedding by another name than the blocks."""
    single = ("single_transformer_blocks.*",) if len(getattr(model, "single_transformer_blocks", ())) else ()
    return Places(
        "time_text_embed.timestep_embedder",
        layers=("transformer_blocks.*", *single, "norm_out"),
        argument=("temb", "conditioning_embedding"),
        features="time_text_embed.time_proj",
    )


def wan(model: Any) -> Places:
    return Places(
        "condition_embedder.time_embedder",
        layers="blocks.*",
        features="condition_embedder.timesteps_proj",
        projection=("condition_embedder.act_fn", "condition_embedder.time_proj"),
        head=("condition_embedder", 0),
    )


PLACES = {
    "UNet2DModel": unet,
    "UNet2DConditionModel": unet,
    "DiTTransformer2DModel": dit,
    "PixArtTransformer2DModel": pixart,
    "SD3Transformer2DModel": joint,
    "FluxTransformer2DModel": joint,
    "WanTransformer3DModel": wan,
}


def places(model: nn.Module) -> Places:
    """The places of a model of diffusers; a network around it gives `places(model).below("its name")`. Raises
    ValueError for another class.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in PLACES:
            return PLACES[kind.__name__](model)
    raise ValueError(
        f"it is not known where a {type(model).__name__} learns the time: pass student(places=students.Places(...)); "
        f"known are {', '.join(PLACES)}"
    )


def checkpoint(flow: FlowMap) -> FlowMap:
    """Let the models of diffusers in a student compute their layers again in the backward pass, which needs less
    memory; the student itself. Raises TypeError for a flow map that is none, ValueError where no model can.
    """
    if not isinstance(student := flow.network, Student):
        raise TypeError(f"expected a flow map made by fm.student, got one around a {type(student).__name__}")
    able: list[Any] = [part for part in student.modules() if hasattr(part, "enable_gradient_checkpointing")]
    if not able:
        raise ValueError("this student has no model of diffusers that can compute its layers again")
    for model in able:
        model.enable_gradient_checkpointing(student.checkpointed)
    return flow
