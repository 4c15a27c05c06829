"""A network of diffusers with two times."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import UNet2DConditionModel as Stock
from torch import Tensor, nn

from ...students.student import Student
from .building import made
from .interval import interval


class FlowMapModel(Stock):
    """The average velocity V(x, s, t) of a flow map: x_t = x_s + (t - s) V(x_s, s, t), t = 0 is data and t = 1 noise.

    It is called like its class in diffusers, from `timestep` to `r_timestep`. The pipeline sets `schedule`, the
    scheduler that gives the default of `r_timestep`, its next timestep, and `told`, numeric conditions by name, such as
    guidance, which take precedence over arguments of that name.

    Args:
        *args: Arguments of its class.
        flow_map: Description of the student: its times, its reading and its clock.
        shape: Shape of one sample.
        image: Whether a sample is an image.
        noise_scale: Standard deviation of the noise at t = 1.
        **config: Arguments of its class.
    """

    def __init__(
        self,
        *args: Any,
        flow_map: dict[str, Any],
        shape: list[int] | None = None,
        image: bool = False,
        noise_scale: float = 1.0,
        **config: Any,
    ) -> None:
        super().__init__(*args, **config)
        self.register_to_config(flow_map=flow_map, shape=shape, image=image, noise_scale=noise_scale)
        self.reading = made(flow_map["reading"])
        student = Student(_Whole(self), self.reading, **made(flow_map["student"]))
        self.flow_map_new, self.flow_map_tame = student.new, student.tame
        self.student = (student,)  # in a tuple: the student contains this module
        self.schedule: Any = None
        self.told: dict[str, Any] = {}

    __init__.__signature__ = inspect.Signature(
        [
            *inspect.signature(Stock.__init__).parameters.values(),
            *[p for p in inspect.signature(__init__).parameters.values() if p.kind is p.KEYWORD_ONLY],
        ]
    )

    def forward(self, *args: Any, r_timestep: Any = None, return_dict: bool = True, **given: Any) -> Any:
        """Evaluate V from `timestep` to `r_timestep`, with the other arguments of its class in diffusers."""
        (student,) = self.student
        told = {name: given.pop(name) for name in student.told if name in given}
        told |= {name: value for name, value in self.told.items() if name in student.told}
        _, x, *_ = call = inspect.signature(Stock.forward).bind(self, *args, **given).arguments
        x, timestep = call[x], torch.as_tensor(call["timestep"]) * self.config.flow_map["clock"]
        s, t = interval(timestep, r_timestep, self.schedule, x)
        for time, only in zip((s, t), self.config.flow_map["only"], strict=True):
            if only is not None and bool((time != only).any()):
                raise ValueError("this map only jumps from noise to data: num_inference_steps=1")
        others = {name: value for name, value in list(call.items())[2:] if name != "timestep"}
        others |= {name: torch.as_tensor(value).to(s).flatten().expand(len(s)) for name, value in told.items()}
        value = student(x, s, t, **others)
        known, variance = value[:, : x.shape[1]], value[:, x.shape[1] :]
        velocity = self.reading.velocity(known.to(x.dtype), x, s)
        if self.config.flow_map["variance"]:  # the pipeline leaves it out itself
            velocity = torch.cat([velocity, variance.to(x.dtype)], dim=1)
        return _Output((velocity,)) if return_dict else (velocity,)


class _Output(tuple):
    """The output of a model: `sample`, also as the first member of a tuple."""

    @property
    def sample(self) -> Tensor:
        return self[0]


class _Whole(nn.Module):
    """The network in its own class, called with x and the time on its clock."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, time: Tensor, **others: Any) -> Tensor:
        flow_map = self.model.config.flow_map
        clock = time / flow_map["clock"]
        others |= {name: torch.full_like(time, value) for name, value in flow_map["fixed"].items()}
        _, name, *_ = inspect.signature(Stock.forward).parameters
        return Stock.forward(self.model, timestep=clock, return_dict=False, **{name: x}, **others)[0]
