"""The call of each class of diffusers, a function for each, and its conditions, in `KINDS`.

x is an image or a video of the shape of the VAE's latents; time is the scheduler's timestep (0 to 1000), as (B,). The
conditions by name:

    label (B,) | text (B, L, D) | mask (B, L) | pooled (B, P) | guidance (B,)
    size (B, 6) SDXL's time_ids: original height and width, top and left of the crop, target height and width
    size (B, 3) of a size-conditioned PixArt: height, width, height/width
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int | None, ...]]
"""Shapes of conditions by name, without the rows; None is any length."""


def unet(model: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Call a UNet2DModel."""
    return model(x, time, class_labels=given.get("label"), return_dict=False)[0]


def text_unet(model: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Call a UNet2DConditionModel."""
    added = {"text_embeds": given["pooled"], "time_ids": given["size"]} if "size" in given else None
    return model(
        x, time, encoder_hidden_states=given["text"], encoder_attention_mask=given.get("mask"),
        class_labels=given.get("label"), added_cond_kwargs=added, return_dict=False,
    )[0]  # fmt: skip


def dit(model: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Call a DiTTransformer2DModel."""
    return model(x, timestep=time, class_labels=given["label"], return_dict=False)[0]


def sd3(model: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Call an SD3Transformer2DModel."""
    return model(
        x, timestep=time, encoder_hidden_states=given["text"], pooled_projections=given["pooled"], return_dict=False
    )[0]


def pixart(model: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Call a PixArtTransformer2DModel."""
    size = given.get("size")
    added = (None, None) if size is None else (size[:, :2], size[:, 2:])
    return model(
        x, timestep=time, encoder_hidden_states=given["text"], encoder_attention_mask=given.get("mask"),
        added_cond_kwargs=dict(zip(("resolution", "aspect_ratio"), added, strict=True)), return_dict=False,
    )[0]  # fmt: skip


def wan(model: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Call a WanTransformer3DModel; times per frame (B, T) become one for each token, as in Wan 2.2 TI2V."""
    if time.ndim == 2:
        tokens = (x.shape[3] // model.config.patch_size[1]) * (x.shape[4] // model.config.patch_size[2])
        time = time[:, :, None].expand(-1, -1, tokens).flatten(1)
    return model(x, timestep=time, encoder_hidden_states=given["text"], return_dict=False)[0]


def flux(model: Any, x: Tensor, time: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Call a FluxTransformer2DModel: tokens are squares of 2 x 2, and the model multiplies the time by 1000 itself.

    Without the condition `guidance` the scale is 3.5, the default of its pipeline.
    """
    B, C, H, W = x.shape
    h, w, text = H // 2, W // 2, given["text"]
    tokens = x.reshape(B, C, h, 2, w, 2).permute(0, 2, 4, 1, 3, 5).reshape(B, h * w, 4 * C)
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    positions = torch.stack((torch.zeros_like(rows), rows, columns), -1).reshape(h * w, 3)
    guidance = given.get("guidance", torch.full_like(time, 3.5)) if model.config.guidance_embeds else None
    value = model(
        tokens, timestep=time / 1000, guidance=guidance, pooled_projections=given["pooled"], encoder_hidden_states=text,
        txt_ids=torch.zeros(text.shape[1], 3, device=x.device), img_ids=positions.to(x), return_dict=False,
    )[0]  # fmt: skip
    return value.reshape(B, h, w, C, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W)


@dataclass(frozen=True)
class NetworkKind:
    """The call of the models of one class, and their conditions.

    Attributes:
        call: (model, x, time, conditions) -> output.
        needs: Function from a model to the conditions that it needs, with their shapes.
        may: Function from a model to further conditions that it accepts.
        patch: Sides of a patch; the sides of x must be multiples of them.
        frame_axis: Function from a model to the axis of x along which times may differ; None for one time a row.
    """

    call: Callable[[Any, Tensor, Tensor, Mapping[str, Tensor]], Tensor]
    needs: Callable[[Any], Shapes]
    may: Callable[[Any], Shapes] = lambda model: {}
    patch: Callable[[Any], tuple[int, ...]] = lambda model: (1, 1)
    frame_axis: Callable[[Any], int | None] = lambda model: None


def _label(model: Any) -> Shapes:
    return {} if getattr(model, "class_embedding", None) is None else {"label": ()}


def _text_unet_needs(model: Any) -> Shapes:
    c = model.config
    shapes = {"text": (None, c.cross_attention_dim)} | _label(model)
    if c.addition_embed_type == "text_time":
        shapes |= {"pooled": (c.projection_class_embeddings_input_dim - 6 * c.addition_time_embed_dim,), "size": (6,)}
    return shapes


def _mask(model: Any) -> Shapes:
    return {"mask": (None,)}


def _square(model: Any) -> tuple[int, ...]:
    return (model.config.patch_size,) * 2


KINDS: dict[str, NetworkKind] = {
    "UNet2DModel": NetworkKind(unet, _label),
    "UNet2DConditionModel": NetworkKind(text_unet, _text_unet_needs, _mask),
    "DiTTransformer2DModel": NetworkKind(dit, lambda model: {"label": ()}, patch=_square),
    "SD3Transformer2DModel": NetworkKind(
        sd3,
        lambda model: {
            "text": (None, model.config.joint_attention_dim), "pooled": (model.config.pooled_projection_dim,)
        },
        patch=_square,
    ),
    "FluxTransformer2DModel": NetworkKind(
        flux,
        lambda model: {
            "text": (None, model.config.joint_attention_dim), "pooled": (model.config.pooled_projection_dim,)
        },
        lambda model: {"guidance": ()} if model.config.guidance_embeds else {},
        patch=lambda model: (2, 2),
    ),
    "PixArtTransformer2DModel": NetworkKind(
        pixart,
        lambda model: {"text": (None, model.config.caption_channels)}
        | ({"size": (3,)} if model.use_additional_conditions else {}),
        _mask,
        patch=_square,
    ),
    "WanTransformer3DModel": NetworkKind(
        wan,
        lambda model: {"text": (None, model.config.text_dim)},
        patch=lambda model: tuple(model.config.patch_size),
        frame_axis=lambda model: 2 if model.config.patch_size[0] == 1 else None,
    ),
}  # fmt: skip
