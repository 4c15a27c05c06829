"""A pipeline of diffusers that samples a flow map."""

from __future__ import annotations

import functools
import warnings
from typing import Any

from diffusers import StableDiffusionPipeline as Stock


class FlowMapPipeline(Stock):
    """A pipeline of diffusers with a flow map: a few steps, without guidance in sampling."""

    def __call__(
        self,
        *args: Any,
        num_inference_steps: int = 1,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        **given: Any,
    ) -> Any:
        """Sample.

        Args:
            *args: Arguments of its class.
            num_inference_steps: Number of jumps.
            guidance_scale: Scale for a guidance-conditioned flow map.
            guidance_interval: Times (from, to) in [0, 1] between which it acts, for a flow map conditioned on them.
            **given: Arguments of its class.

        Returns:
            The result of its class.
        """
        network = self.unet if hasattr(self, "unet") else self.transformer
        network.schedule, network.told = self.scheduler, {}
        prepare(self.scheduler, network.config.noise_scale)
        (student,) = network.student
        if guidance_interval is not None:
            network.told = dict(zip(("guidance_from", "guidance_to"), guidance_interval, strict=True))
        if guidance_scale is not None and "guidance" in student.told:
            network.told["guidance"] = guidance_scale
            guidance_scale = None
        elif guidance_scale is not None and guidance_scale > 1 and network.config.flow_map["guided"]:
            warnings.warn(
                f"this flow map has guidance baked in ({network.config.flow_map['guided']}): guidance in sampling is "
                "applied on top of it",
                stacklevel=2,
            )
        scale = network.config.flow_map["scale"] if guidance_scale is None else guidance_scale
        return Stock.__call__(self, *args, num_inference_steps=num_inference_steps, guidance_scale=scale, **given)


def prepare(scheduler: Any, noise_scale: float) -> None:
    """Adapt the scheduler, in place, to pipelines that are older than it.

    They read the scale of the noise from it, pass `mu`, a shift of their own schedule that a flow map does not need,
    and, like PixArt, take the sample as the second of two results of a step.

    Args:
        scheduler: The scheduler.
        noise_scale: Standard deviation of the noise at t = 1.
    """
    scheduler.init_noise_sigma = noise_scale
    if "set_timesteps" in vars(scheduler):
        return
    set_timesteps, step = scheduler.set_timesteps, scheduler.step

    def without_mu(
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        timesteps: Any = None,
        mu: float | None = None,
    ) -> None:
        set_timesteps(num_inference_steps, device, sigmas=sigmas, timesteps=timesteps)

    @functools.wraps(step)  # pipelines look at its arguments for a generator
    def twice(*args: Any, return_dict: bool = True, **given: Any) -> Any:
        result = step(*args, return_dict=return_dict, **given)
        return result if return_dict else (result[0], result[0])

    scheduler.set_timesteps, scheduler.step = without_mu, twice
