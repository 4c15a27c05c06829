"""Distillations of widely used pipelines.

The settings are ours, and nothing was trained at these sizes. The tests run the code path of each on a tiny random
pipeline of the same classes, and compare its plan with the real step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import students
from ..methods import ayf_emd, lcm, splitmeanflow
from .distillation import Distillation
from .model import Model

DDPM: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
}
"""Scheduler of Stable Diffusion before version 3."""
FLOW_MATCHING = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
"""Scheduler of the later pipelines."""

SD15 = Model(
    "UNet2DConditionModel",
    {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
)
SDXL = Model(
    "UNet2DConditionModel",
    {
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    layers=("transformer_layers_per_block",),
)
SD3 = Model(
    "SD3Transformer2DModel",
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "num_attention_heads": 24,
        "attention_head_dim": 64,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
    },
    layers=("num_layers",),
)
FLUX = Model(
    "FluxTransformer2DModel",
    {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
    },
    layers=("num_layers", "num_single_layers"),
)
WAN = Model(
    "WanTransformer3DModel",
    {
        "patch_size": (1, 2, 2),
        "in_channels": 48,
        "out_channels": 48,
        "num_layers": 30,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "ffn_dim": 14336,
        "text_dim": 4096,
        "freq_dim": 256,
    },
    layers=("num_layers",),
)


def pipeline(
    hub: str, model: Model, scheduler: Mapping[str, Any], shape: tuple[int, ...], tokens: int, data: str
) -> dict[str, Any]:
    """The fields of a `Distillation` that depend on its pipeline."""
    return {"hub": hub, "model": model, "scheduler": scheduler, "shape": shape, "tokens": tokens, "data": data}


def captioned(side: int) -> str:
    """Description of data: square images with captions."""
    return f"images of {side} x {side} with captions"


ALL_WEIGHTS: dict[str, Any] = {"method": ayf_emd, "guidance": (1.0, 8.0), "steps": 20_000, "lr": 1e-5}
"""Train all weights of a guidance-conditioned student."""
LORA: dict[str, Any] = {"lora": 64, "lr": 1e-4}
"""Train LoRA."""

PRETRAINED: Mapping[str, Distillation] = {
    recipe.name: recipe
    for recipe in (
        Distillation(
            name="sd15",
            **pipeline("stable-diffusion-v1-5/stable-diffusion-v1-5", SD15, DDPM, (4, 64, 64), 77, captioned(512)),
            **ALL_WEIGHTS,
            times=students.added,
            batch_size=256,
            why="small enough to train all weights; guidance-conditioned, so that one student serves all scales",
        ),
        Distillation(
            name="sdxl-lora",
            **pipeline("stabilityai/stable-diffusion-xl-base-1.0", SDXL, DDPM, (4, 128, 128), 77, captioned(1024)),
            **LORA,
            method=lcm,
            times=students.source_only,
            guidance=5.0,
            steps=5_000,
            batch_size=64,
            why="as LCM-LoRA: LoRA alone, which fits onto other fine-tunes; guidance is baked in",
        ),
        Distillation(
            name="sd3-medium",
            **pipeline(
                "stabilityai/stable-diffusion-3-medium-diffusers",
                SD3,
                FLOW_MATCHING,
                (16, 128, 128),
                333,
                captioned(1024),
            ),
            **ALL_WEIGHTS,
            times=students.decoupled,
            batch_size=128,
            why="late layers of the transformer take the target time without new weights; all weights, with --shard",
        ),
        Distillation(
            name="flux-dev-lora",
            **pipeline("black-forest-labs/FLUX.1-dev", FLUX, FLOW_MATCHING, (16, 128, 128), 512, captioned(1024)),
            **LORA,
            method=ayf_emd,
            times=students.added,
            guidance=(1.0, 5.0),
            steps=5_000,
            batch_size=32,
            why="too large to train all weights; the network takes the scale itself, so that guidance costs nothing",
        ),
        Distillation(
            name="wan22-5b-lora",
            **pipeline(
                "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
                WAN,
                FLOW_MATCHING,
                (48, 13, 44, 80),
                512,
                "latents of videos, 49 frames of 704 x 1280, and a prompt for each",
            ),
            **LORA,
            method=splitmeanflow,
            times=students.added,
            guidance=5.0,
            steps=4_000,
            batch_size=32,
            why="no derivatives: their attention has no fused kernel, and there are 11,440 tokens",
        ),
    )
}
