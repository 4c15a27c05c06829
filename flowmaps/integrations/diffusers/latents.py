"""Encode images and videos to a pipeline's latents and decode them, by the pipeline's VAE."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from .autoencoders import autoencoder
from .folder import Loaded, Saved, networks, opened

FLUX_SIDE = 128
"""Default side of the latents of FLUX's pipeline; its network has no size of its own."""
KINDS = {
    "AutoencoderKL": ("latent_channels",),
    "AutoencoderKLWan": ("z_dim",),
    "VQModel": ("vq_embed_dim", "latent_channels"),
}
"""Known VAE classes, with the keys of the number of channels in their config; the first key that is set counts."""


class Latents(nn.Module):
    """Latents (z - shift) scale of images, with z from the pipeline's VAE; without a VAE the images themselves.

    shift and scale are the shift_factor and scaling_factor of the VAE's config, or its latents_mean and latents_std.
    The VAE is frozen and stays on the CPU until `.to(device)`. A VAE that is loaded here is in float32, because some
    overflow in half precision.

    Args:
        folder_or_pipeline: As for `teacher`.
        size: Size of the images in pixels, (H, W), or (T, H, W) of a video. None: the pipeline's own.
        variant: Variant of the weight files, such as "fp16".

    Raises:
        ValueError: For an unknown VAE, and a size that it cannot encode.
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
        if (name := autoencoder(pipeline)) is None:
            self.channels = pipeline.config(networks(pipeline)[0])["in_channels"]
            return
        if (kind := pipeline.class_name(name)) not in KINDS:
            raise ValueError(f"flowmaps cannot encode by a VAE of class {kind}; known classes are {', '.join(KINDS)}")
        self.vae = pipeline.part(name).requires_grad_(False).eval()
        self.channels = next(self.vae.config[key] for key in KINDS[kind] if self.vae.config[key])
        for name, value in zip(("shift", "scale"), _shift_and_scale(self.vae.config), strict=True):
            self.register_buffer(name, value, persistent=False)
        _divided(self.size, self.factors)

    @property
    def factors(self) -> tuple[int, ...]:
        """Pixels of one latent along each axis."""
        return (1,) * len(self.size) if self.vae is None else factors(self.vae.config)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one latent, (C, h, w) or (C, t, h, w)."""
        return self.channels, *_divided(self.size, self.factors)

    @torch.no_grad()
    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode images or videos.

        Args:
            images: Images (B, 3, H, W) in [-1, 1], or videos (B, 3, T, H, W).
            generator: Draws from the VAE's distribution, if it has one. None: its mode.

        Returns:
            Latents (B, C, h, w) or (B, C, t, h, w).

        Raises:
            ValueError: For a size that the VAE cannot encode.
        """
        if self.vae is None:
            return images
        _divided(tuple(images.shape[2:]), self.factors)
        if self.is_quantised:
            z = self.vae.encode(images.to(self.vae.dtype)).latents
        else:
            posterior = self.posterior(images)
            z = posterior.mode() if generator is None else posterior.sample(generator)
        return ((z - self.shift) * self.scale).to(images.dtype)

    @property
    def is_quantised(self) -> bool:
        """Whether the VAE quantises, when it decodes, and has one latent for an image instead of a distribution."""
        return hasattr(self.vae, "quantize")

    def posterior(self, images: Tensor) -> Any:
        """The distribution of the latents of images, without shift and scale."""
        return self.vae.encode(images.to(self.vae.dtype)).latent_dist

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images in about [-1, 1], not clamped; differentiable."""
        if self.vae is None:
            return latents
        z = latents.to(self.vae.dtype) / self.scale + self.shift
        return self.vae.decode(z, return_dict=False)[0].to(latents.dtype)


def default_size(pipeline: Saved | Loaded) -> tuple[int, ...]:
    """Return the default size of a pipeline's images in pixels, (H, W), or (T, H, W) of videos."""
    name = networks(pipeline)[0]
    if pipeline.class_name(name) == "WanTransformer3DModel":
        defaults = inspect.signature(diffusers.WanPipeline.__call__).parameters
        return tuple(defaults[side].default for side in ("num_frames", "height", "width"))
    side = pipeline.config(name).get("sample_size") or FLUX_SIDE
    vae = autoencoder(pipeline)
    factor = 1 if vae is None else factors(pipeline.config(vae))[0]
    return tuple(n * factor for n in ((side, side) if isinstance(side, int) else side))


def factors(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Compute the pixels of one latent along each axis from the config of the VAE."""
    if "z_dim" in config:
        return config["scale_factor_temporal"], config["scale_factor_spatial"], config["scale_factor_spatial"]
    return (2 ** (len(config["block_out_channels"]) - 1),) * 2


def _shift_and_scale(config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Read shift and scale from the config of the VAE: (C, 1, 1) or (C, 1, 1, 1), or numbers for all channels."""
    scale = torch.tensor(config.get("scaling_factor") or 1.0)
    if config.get("latents_mean") is None:
        return torch.tensor(config.get("shift_factor") or 0.0), scale
    rows = (-1, *(1 for _ in factors(config)))
    mean, std = (torch.tensor(config[name]).reshape(rows) for name in ("latents_mean", "latents_std"))
    return mean, scale / std


def _divided(size: tuple[int, ...], by: tuple[int, ...]) -> tuple[int, ...]:
    """Convert a size in pixels to latents; the first frame of a video is a latent of its own."""
    sides = [n - 1 for n in size[:-2]] + list(size[-2:])
    if len(size) != len(by) or any(n % f for n, f in zip(sides, by, strict=True)):
        axes = "(T, H, W) with T - 1, H and W" if len(by) == 3 else "(H, W) with H and W"
        raise ValueError(
            f"this VAE encodes sizes {axes} multiples of {', '.join(map(str, by))}, but the size is {tuple(size)}"
        )
    return *(n // f + 1 for n, f in zip(sides[:-2], by, strict=False)), sides[-2] // by[-2], sides[-1] // by[-1]
