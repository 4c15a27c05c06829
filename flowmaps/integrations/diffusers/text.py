"""Text conditioning: encode prompts by the text encoders of a pipeline and its own `encode_prompt`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.utils import is_bs4_available, is_ftfy_available
from torch import Tensor, nn

from .folder import Loaded, Saved, networks, opened
from .latents import default_size

Conditions = dict[str, Tensor]


def stable_diffusion(pipeline: Any, prompts: list[str], device: torch.device, length: int | None) -> Conditions:
    """Encode prompts for Stable Diffusion."""
    return {"text": pipeline.encode_prompt(prompts, device, 1, False)[0]}


def sdxl(pipeline: Any, prompts: list[str], device: torch.device, length: int | None) -> Conditions:
    """Encode prompts for SDXL; the null condition is zero if the pipeline's config says so, not the empty prompt."""
    text, _, pooled, _ = pipeline.encode_prompt(prompts, device=device, do_classifier_free_guidance=False)
    if pipeline.config.force_zeros_for_empty_prompt:
        null = torch.tensor([not prompt for prompt in prompts], device=device)
        text, pooled = text.masked_fill(null[:, None, None], 0), pooled.masked_fill(null[:, None], 0)
    return {"text": text, "pooled": pooled}


def sd3(pipeline: Any, prompts: list[str], device: torch.device, length: int | None) -> Conditions:
    """Encode prompts for Stable Diffusion 3."""
    text, _, pooled, _ = pipeline.encode_prompt(
        prompts, None, None, device=device, do_classifier_free_guidance=False, max_sequence_length=length
    )
    return {"text": text, "pooled": pooled}


def flux(pipeline: Any, prompts: list[str], device: torch.device, length: int | None) -> Conditions:
    """Encode prompts for FLUX."""
    text, pooled, _ = pipeline.encode_prompt(prompts, device=device, max_sequence_length=length)
    return {"text": text, "pooled": pooled}


def pixart(pipeline: Any, prompts: list[str], device: torch.device, length: int | None) -> Conditions:
    """Encode prompts for PixArt."""
    clean = is_bs4_available() and is_ftfy_available()  # as the pipeline does, which warns if they are missing
    text, mask, _, _ = pipeline.encode_prompt(
        prompts, False, device=device, clean_caption=clean, max_sequence_length=length
    )
    return {"text": text, "mask": mask}


def wan(pipeline: Any, prompts: list[str], device: torch.device, length: int | None) -> Conditions:
    """Encode prompts for Wan."""
    text, _ = pipeline.encode_prompt(
        prompts, do_classifier_free_guidance=False, device=device, max_sequence_length=length
    )
    return {"text": text}


ENCODERS: dict[str, Callable[[Any, list[str], torch.device, int | None], Conditions]] = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": sdxl,
    "StableDiffusion3Pipeline": sd3,
    "FluxPipeline": flux,
    "PixArtAlphaPipeline": pixart,
    "PixArtSigmaPipeline": pixart,
    "WanPipeline": wan,
}


class Texts(nn.Module):
    """Text conditioning: encode prompts to the conditions of a pipeline's network.

    The conditions are text (B, L, D), and pooled (B, P), mask (B, L) and size (B, 6) if the network has them. The
    encoders are frozen and stay on the CPU until `.to(device)`.

    Args:
        folder_or_pipeline: As for `teacher`; from a folder only tokenizers and text encoders are loaded.
        size: Size of the images in pixels (H, W), for networks with a size condition. None: the pipeline's own.
        length: Largest number of tokens of a prompt, if the pipeline has a choice. None: the pipeline's own.
        dtype: Dtype of the encoders. None: float32.
        variant: Variant of the weight files, such as "fp16".

    Raises:
        ValueError: For a pipeline without text encoders, and an unknown pipeline.
    """

    def __init__(
        self,
        folder_or_pipeline: Any,
        size: tuple[int, ...] | None = None,
        *,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        source = opened(folder_or_pipeline, variant)
        if not source.has("text_encoder"):
            raise ValueError(f"{source.name} has no text encoder: its network takes no text")
        known = [name for name in source.class_names if name in ENCODERS]
        if not known:
            raise ValueError(
                f"flowmaps cannot encode prompts by a {source.class_names[0]}; known pipelines are "
                f"{', '.join(ENCODERS)}"
            )
        self.encoder = ENCODERS[known[0]]
        self.size = _size_condition(source, default_size(source) if size is None else tuple(size))
        self.pipeline = source.only("text_encoder", "tokenizer", dtype=dtype)
        self.length = length or _default(self.pipeline, "max_sequence_length")
        encoders = {name: part for name, part in self.pipeline.components.items() if name.startswith("text_encoder")}
        self.encoders = nn.ModuleDict({name: part for name, part in encoders.items() if part is not None})
        self.encoders.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditions:
        """Encode prompts.

        Args:
            prompts: The prompts; the empty one is the pipeline's null condition.

        Returns:
            Conditions by name, one row for each prompt.

        Raises:
            TypeError: For a single string.
        """
        if isinstance(prompts, str):
            raise TypeError(f"expected a list of prompts, got the text {prompts!r}: put it in a list")
        device = next(self.encoders.parameters()).device
        given = self.encoder(self.pipeline, list(prompts), device, self.length)
        if self.size is not None:
            row = torch.tensor([self.size], dtype=torch.float32, device=device)
            given["size"] = row.expand(len(prompts), -1).contiguous()
        return given


def _size_condition(source: Saved | Loaded, size: tuple[int, ...]) -> list[float] | None:
    """Make one row of the condition `size` for uncropped images; None for networks without it."""
    network = networks(source)[0]
    config, (H, W) = source.config(network), size[-2:]
    if config.get("addition_embed_type") == "text_time":
        return [H, W, 0, 0, H, W]
    if source.class_name(network) == "PixArtTransformer2DModel":
        uses = config.get("use_additional_conditions")
        if uses or (uses is None and config["sample_size"] == 128):
            return [H, W, H / W]
    return None


def _default(pipeline: Any, argument: str) -> Any:
    """Return the default of an argument of the pipeline's call; None if it has no such argument."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    return parameters[argument].default if argument in parameters else None
