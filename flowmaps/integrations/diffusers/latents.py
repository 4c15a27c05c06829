"""Images and videos to the latents that a pipeline's network knows, and back, by the pipeline's VAE."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from .folder import Loaded, Saved, networks, opened

FLUX_SIDE = 128
"""The side of the latents of FLUX's pipeline by default; its network has no size of its own."""
KINDS = {"AutoencoderKL": "latent_channels", "AutoencoderKLWan": "z_dim"}
"""The VAEs, and what their config calls the number of channels."""


class Latents(nn.Module):
    """latents = (z - shift) scale, with z of the pipeline's VAE; the images themselves where it has none.

    folder_or_pipeline: as for `teacher`. size: of the images in pixels, (H, W), or (T, H, W) of a video; by default
    that of the pipeline. shift and scale are the scaling_factor and shift_factor of the VAE's config, or its
    latents_mean and latents_std. The VAE is frozen, and in float32 where it is loaded here, for in half precision some
    overflow; it stays on the CPU until `.to(device)`.
    Raises ValueError for another kind of VAE and for a size that it cannot encode.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, folder_or_pipeline: Any, size: tuple[int, ...] | None = None, *, variant: str | None = None
    ) -> None:
        super().__init__()
        pipeline = opened(folder_or_pipeline, variant)
        self.size = default_size(pipeline) if size is None else tuple(size)
        self.vae: Any = None
        if not pipeline.has("vae"):
            self.channels = pipeline.config(networks(pipeline)[0])["in_channels"]
            return
        if (kind := pipeline.class_name("vae")) not in KINDS:
            raise ValueError(f"flowmaps does not know the latents of a {kind}; it knows those of {', '.join(KINDS)}")
        self.vae = pipeline.part("vae").requires_grad_(False).eval()
        self.channels = self.vae.config[KINDS[kind]]
        for name, value in zip(("shift", "scale"), _shift_and_scale(self.vae.config), strict=True):
            self.register_buffer(name, value, persistent=False)
        _divided(self.size, self.factors)

    @property
    def factors(self) -> tuple[int, ...]:
        """Pixels to one latent along each axis."""
        return (1,) * len(self.size) if self.vae is None else factors(self.vae.config)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one latent, (C, h, w) or (C, t, h, w)."""
        return self.channels, *_divided(self.size, self.factors)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], or videos (B, 3, T, H, W), to latents (B, C, h, w) or (B, C, t, h, w).

        The mean of the VAE's distribution; a draw from it where a generator is given.
        """
        if self.vae is None:
            return images
        _divided(tuple(images.shape[2:]), self.factors)
        posterior = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return ((z - self.shift) * self.scale).to(images.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images in about [-1, 1], not clamped; differentiable."""
        if self.vae is None:
            return latents
        z = latents.to(self.vae.dtype) / self.scale + self.shift
        return self.vae.decode(z, return_dict=False)[0].to(latents.dtype)


def default_size(pipeline: Saved | Loaded) -> tuple[int, ...]:
    """Of the images that the pipeline makes where it is not told, (H, W), or (T, H, W) of videos, in pixels."""
    name = networks(pipeline)[0]
    if pipeline.class_name(name) == "WanTransformer3DModel":
        defaults = inspect.signature(diffusers.WanPipeline.__call__).parameters
        return tuple(defaults[side].default for side in ("num_frames", "height", "width"))
    side = pipeline.config(name).get("sample_size") or FLUX_SIDE
    factor = factors(pipeline.config("vae"))[0] if pipeline.has("vae") else 1
    return tuple(n * factor for n in ((side, side) if isinstance(side, int) else side))


def factors(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Pixels to one latent along each axis, from the config of the VAE."""
    if "z_dim" in config:
        return config["scale_factor_temporal"], config["scale_factor_spatial"], config["scale_factor_spatial"]
    return (2 ** (len(config["block_out_channels"]) - 1),) * 2


def _shift_and_scale(config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(C, 1, 1) or (C, 1, 1, 1), or numbers where all channels share them."""
    scale = torch.tensor(config.get("scaling_factor") or 1.0)
    if config.get("latents_mean") is None:
        return torch.tensor(config.get("shift_factor") or 0.0), scale
    rows = (-1, *(1 for _ in factors(config)))
    mean, std = (torch.tensor(config[name]).reshape(rows) for name in ("latents_mean", "latents_std"))
    return mean, scale / std


def _divided(size: tuple[int, ...], by: tuple[int, ...]) -> tuple[int, ...]:
    """A size in pixels in latents; the first frame of a video is a latent of its own."""
    sides = [n - 1 for n in size[:-2]] + list(size[-2:])
    if len(size) != len(by) or any(n % f for n, f in zip(sides, by, strict=True)):
        said = "(T, H, W) with T - 1, H and W" if len(by) == 3 else "(H, W) with H and W"
        raise ValueError(
            f"this VAE encodes sizes {said} multiples of {', '.join(map(str, by))}, but the size is {tuple(size)}"
        )
    return *(n // f + 1 for n, f in zip(sides[:-2], by, strict=False)), sides[-2] // by[-2], sides[-1] // by[-1]
