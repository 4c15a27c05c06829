"""A flow map with a network of flowmaps as a model of diffusers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from .building import made
from .interval import interval


class FlowMapNetwork(ModelMixin, ConfigMixin):
    """The average velocity V(x, s, t) of a flow map: x_t = x_s + (t - s) V(x_s, s, t), t = 0 is data and t = 1 noise.

    The pipeline sets `schedule`, the scheduler that gives the default of `r_timestep`, its next timestep.

    Args:
        flow: Description of network, output and path.
        shape: Shape of one sample.
        image: Whether a sample is an image.
        noise_scale: Standard deviation of the noise at t = 1.
        units: Mean and standard deviation of each feature of the data, "mean" and "std". None: not standardised.
    """

    @register_to_config
    def __init__(
        self,
        flow: dict[str, Any],
        shape: list[int],
        image: bool = True,
        noise_scale: float = 1.0,
        units: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.output, self.path = (made(flow[name]) for name in ("network", "output", "path"))
        self.only = [flow["only_source"], flow["only_target"]]
        self.schedule: Any = None

    def forward(
        self,
        sample: Tensor,
        timestep: Any,
        r_timestep: Any = None,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
        **given: Any,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Evaluate V.

        Args:
            sample: States (B, *shape).
            timestep: 1000 times the source time.
            r_timestep: 1000 times the target time. None: the next timestep of `schedule`.
            class_labels: (B,). None: the null class.
            return_dict: Whether to return an object instead of a tuple.
            **given: Numeric conditions, such as guidance.

        Returns:
            V (B, *shape), as `sample`.

        Raises:
            ValueError: For times that the network does not know.
        """
        s, t = interval(timestep, r_timestep, self.schedule, sample)
        for time, only in zip((s, t), self.only, strict=True):
            if only is not None and bool((time != only).any()):
                raise ValueError("this map only jumps from noise to data: num_inference_steps=1")
        condition = {name: torch.as_tensor(value).to(s).flatten().expand(len(s)) for name, value in given.items()}
        if class_labels is not None:
            condition["label"] = class_labels
        value = self.network(sample, s, t, **condition).to(sample.dtype)
        s, t = (time.reshape(-1, *[1] * (sample.ndim - 1)) for time in (s, t))
        velocity = self.output(value, sample, s, t, self.path).to(sample.dtype)
        return UNet2DOutput(sample=velocity) if return_dict else (velocity,)
