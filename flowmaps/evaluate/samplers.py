"""The samplers of an evaluation, with the noise and the conditions that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import steps as step_functions
from ..arguments.memory import rows_at_a_time
from ..data import Data
from ..data.labels import condition_of
from ..flow_map import FlowMap
from ..sampling import sample
from ..steps import Step
from ..units import Units, units_of
from .cost import Sampled, measured

MANY_CALLS = 2**19
"""Steps times samples beyond which a sampler draws only as many samples as the measures need at least."""


@dataclass(frozen=True)
class Sampler:
    """A row of the table: the name, the number of steps, and the step."""

    name: str
    steps: int
    step: Step


def samplers(
    flow: FlowMap, jumps: Sequence[int], ode_steps: Sequence[int], ode_step: Step = step_functions.euler
) -> list[Sampler]:
    """The samplers that are valid for a map.

    A full map jumps and follows its ODE by steps. A map to t = 0 alone jumps once or restarts. A map from s = 1
    alone jumps once. A map whose denoised field was trained as samples takes ancestral steps.

    Args:
        flow: The flow map.
        jumps: Numbers of jumps.
        ode_steps: Numbers of steps of the ODE.
        ode_step: Step of the ODE.

    Returns:
        The rows of the table.
    """
    counts = [n for n in jumps if n == 1] if flow.only_source is not None else jumps
    chosen = [(n, step_functions.default(flow, n)) for n in counts]
    ode = [(n, ode_step) for n in ode_steps] if flow.has_ode or ode_step is step_functions.ancestral else []
    return [Sampler(step.__name__, n, step) for n, step in [*chosen, *ode]]


@dataclass(frozen=True)
class Setup:
    """Everything that the samplers of one table share.

    Attributes:
        flow: The flow map.
        least: The fewest samples that are enough.
        noise: The states at t = 1, (N, *shape).
        condition: The conditions of each row, or None.
        batch_size: Samples at a time.
        units: The units of the data, if samples come in other ones.
    """

    flow: FlowMap
    least: int
    noise: Tensor
    condition: dict[str, Tensor] | None
    batch_size: int
    units: Units | None = None

    @classmethod
    def make(
        cls, flow: FlowMap, data: Data, least: int, n: int, *, seed: int, batch_size: int | None, labels: bool
    ) -> Setup:
        """Draw noise of the flow's scale at t = 1, on its device, in its precision, and conditions from the data.

        Args:
            flow: The flow map.
            data: The data set.
            least: The fewest samples that are enough.
            n: The number of samples.
            seed: Fixes noise and conditions.
            batch_size: Samples at a time; None takes 2048 for small samples, and 256 or fewer for others.
            labels: Whether the network is conditioned on labels.

        Returns:
            The setup.
        """
        parameter = flow.like
        same = units_of(flow) == data.units
        flow = flow.standardised() if same and data.units is not None else flow
        noise = torch.randn(n, *data.shape, generator=torch.Generator().manual_seed(seed))
        condition = condition_of(data.draw(n, seed), labels) if labels or data.given else None
        values = noise[0].numel()
        noise = flow.path.noise(noise).to(parameter)
        return cls(
            flow,
            least,
            noise,
            condition and {name: value.to(noise.device) for name, value in condition.items()},
            batch_size or rows_at_a_time(values, 2048 if values <= 16 else 256),
            None if same else data.units,
        )

    def sample(self, sampler: Sampler, rows: slice) -> Tensor:
        """Samples of some rows, standardised like the data."""
        condition = self.condition and {name: value[rows] for name, value in self.condition.items()}
        x = sample(self.flow, self.noise[rows], sampler.steps, step=sampler.step, condition=condition, seed=rows.start)
        return x if self.units is None else self.units.standardised(x)

    def rows(self, sampler: Sampler) -> int:
        """The number of rows: all, or the fewest that are enough if the sampler takes many steps."""
        return len(self.noise) if sampler.steps * len(self.noise) <= MANY_CALLS else self.least

    def run(self, sampler: Sampler) -> Sampled:
        """Samples of the rows of a sampler with their cost."""
        return measured(self.flow.network, lambda rows: self.sample(sampler, rows), self.rows(sampler), self.batch_size)
