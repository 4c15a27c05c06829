"""Pipelines of one network and a scheduler, for flow maps without an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class FlowMapPipeline(DiffusionPipeline):
    """Samples of a flow map in a few jumps: pipeline(class_labels=[0, 1], num_inference_steps=2).images."""

    model_cpu_offload_seq = "network"

    def __init__(self, network: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(network=network, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int] | Tensor | int | None = None,
        batch_size: int | None = None,
        num_inference_steps: int = 1,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        sigmas: list[float] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Sample.

        Args:
            class_labels: One for each sample.
            batch_size: Number of samples. None: one for each label, or one.
            num_inference_steps: Number of jumps of equal length.
            guidance_scale: For a guidance-conditioned network.
            generator: Draws the noise.
            latents: The noise (B, *shape). None: drawn.
            sigmas: Start times of the jumps, such as [1.0, 0.3], instead of num_inference_steps.
            output_type: "pil", "np" or "pt" (images in [0, 1]), or "latent" (samples in the units of the data).
            return_dict: Whether to return an object instead of a tuple.

        Returns:
            The samples, as `images`.
        """
        labels = (
            None if class_labels is None else torch.as_tensor(class_labels, device=self._execution_device).reshape(-1)
        )
        x = self.noise(batch_size or (1 if labels is None else len(labels)), generator, latents)
        condition: dict[str, Any] = {} if labels is None else {"class_labels": labels.expand(len(x))}
        if guidance_scale is not None:
            condition["guidance"] = guidance_scale
        self.scheduler.set_timesteps(None if sigmas else num_inference_steps, device=x.device, sigmas=sigmas)
        self.network.schedule = self.scheduler
        draws = {"generator": generator} if getattr(self.scheduler, "restarts", False) else {}
        for timestep in self.progress_bar(self.scheduler.timesteps):
            velocity = self.network(x, timestep, return_dict=False, **condition)[0]
            x = self.scheduler.step(velocity, timestep, x, **draws, return_dict=False)[0]
        images = self.images(x, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def noise(self, rows: int, generator: Any, latents: Tensor | None) -> Tensor:
        """Scale the noise (drawn if `latents` is None) to the state at t = 1."""
        network = self.network
        if latents is None:
            shape = (rows, *network.config.shape)
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=network.dtype)
        return latents.to(self._execution_device, network.dtype) * network.config.noise_scale

    def images(self, x: Tensor, output_type: str) -> Any:
        """Convert samples x to the output type."""
        units = self.network.config.get("units")
        if units is not None:
            mean, std = (x.new_tensor(units[name]).reshape(-1, *[1] * (x.ndim - 2)) for name in ("mean", "std"))
            x = mean + std * x
        if output_type == "latent":
            return x
        if not self.network.config.image:
            raise ValueError('these samples are not images: pass output_type="latent"')
        return self.pixels(x, output_type)

    def pixels(self, x: Tensor, output_type: str) -> Any:
        """Convert images x in [-1, 1] to the output type."""
        pixels = (x / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return pixels
        array = pixels.cpu().float().permute(0, 2, 3, 1).numpy()
        return self.numpy_to_pil(array) if output_type == "pil" else array


class FlowMapUNetPipeline(FlowMapPipeline):
    """The same pipeline for a UNet2DModel, with the component `unet`."""

    model_cpu_offload_seq = "unet"

    def __init__(self, unet: Any, scheduler: Any) -> None:
        DiffusionPipeline.__init__(self)
        self.register_modules(unet=unet, scheduler=scheduler)

    @property
    def network(self) -> Any:
        """The flow map."""
        return self.unet


class FlowMapLatentUNetPipeline(FlowMapUNetPipeline):
    """The same pipeline for a UNet2DModel that makes latents, which the component `vqvae` decodes."""

    model_cpu_offload_seq = "unet->vqvae"

    def __init__(self, unet: Any, vqvae: Any, scheduler: Any) -> None:
        DiffusionPipeline.__init__(self)
        self.register_modules(unet=unet, vqvae=vqvae, scheduler=scheduler)

    def images(self, x: Tensor, output_type: str) -> Any:
        """Convert latents x to the output type; "latent" leaves them as they are."""
        if output_type == "latent":
            return x
        config = self.vqvae.config
        latents = x.to(self.vqvae.dtype) / config.scaling_factor + (config.get("shift_factor") or 0.0)
        return self.pixels(self.vqvae.decode(latents, return_dict=False)[0].detach(), output_type)
