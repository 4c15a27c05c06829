"""Sampling in several steps with a flow map that only jumps to the data."""

from __future__ import annotations

from typing import Any

from diffusers import FlowMapEulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class FlowMapRestartScheduler(FlowMapEulerDiscreteScheduler):
    """The sampler of consistency models, with the times of its base class.

    Each step jumps to the data, x_0 = x_s - s V, and back to the next time r with new noise, (1 - r) x_0 + r eps.
    """

    restarts = True

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Make one step.

        Args:
            model_output: V (B, *shape).
            timestep: 1000 times the source time.
            sample: States (B, *shape) at the source time.
            generator: Draws the noise.
            return_dict: Whether to return an object instead of a tuple.

        Returns:
            The states at the next time, as `prev_sample`.

        Raises:
            ValueError: For a timestep that is not one of the scheduler's.
        """
        position = self.index_for_timestep(timestep)
        if position is None:
            raise ValueError(f"the timestep {timestep} is none of this scheduler's: {self.timesteps.tolist()}")
        answer = FlowMapEulerDiscreteScheduler.step(self, model_output, timestep, sample, r_timestep=0.0)
        time = self.sigmas[position + 1].to(sample.device)
        if time > 0:
            like = {"device": sample.device, "dtype": answer.prev_sample.dtype}
            noise = randn_tensor(sample.shape, generator=generator, **like)
            answer.prev_sample = ((1 - time) * answer.prev_sample + time * noise).to(answer.prev_sample.dtype)
        return answer if return_dict else (answer.prev_sample,)
