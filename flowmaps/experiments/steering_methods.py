"""The methods of steered sampling by their names, each with the flow maps and rewards that it is right for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .. import steering
from .. import steps as steppers
from ..arguments import did_you_mean, shown
from ..arguments.memory import rows_at_a_time
from ..guidance import GuidedVelocity
from ..sampling import sample
from ..steering import look
from ..steering.labels import Label
from ..steering.measurements import Likelihood
from ..steering.reward import Decoded, Rewards
from ..steering.search import Candidates
from ..steering.smc import UNLIKELY, Particles, Watch
from .sampling import MOST_ROWS

WIDTH = 0.5
"""Width of images in [-1, 1] in the directions that a measurement leaves open."""


@dataclass(frozen=True)
class SteeringTask:
    """All that a method needs.

    Attributes:
        flow: The flow map, or its guided velocity.
        noise: Noise, with a row for each particle or sample; (particles, samples, ...) for the best of some.
        steps: Number of steps.
        reward: The reward.
        condition: Conditions by name, with a row for each row of the result.
        joint: Whether particles carry their conditions with them.
        seed: Seed of random steps.
        progress: Function (steps done, steps).
        watch: Function (time, standardised states, log-weights) of particles.
    """

    flow: Any
    noise: Tensor
    steps: int
    reward: Rewards
    condition: Mapping[str, Any]
    joint: bool = False
    seed: int = 0
    progress: Callable[[int, int], None] | None = None
    watch: Watch | None = None

    def value(self, floor: float | None = None) -> Any:
        """The value of the reward: of a measurement by its likelihood, widened by the width of images."""
        if isinstance(self.reward, Likelihood):
            return steering.value(self.reward, look.widened(WIDTH))
        return steering.value(self.reward, floor=floor)

    @property
    def floor(self) -> float | None:
        """Lower bound of the value of a class."""
        inner = self.reward.reward if isinstance(self.reward, Decoded) else self.reward
        return UNLIKELY if isinstance(inner, Label) else None

    def particles(self, recipe: Callable[..., Particles], **options: Any) -> Particles:
        """Particles by a recipe."""
        told = {name: getattr(self, name) for name in ("condition", "joint", "seed", "progress", "watch")}
        return recipe(self.flow, self.noise, self.steps, reward=self.reward, **told, **options)

    def rows(self, flow: Any, step: Any) -> Tensor:
        """Samples of a flow by steps, each by itself."""
        size = rows_at_a_time(math.prod(self.noise.shape[1:]), MOST_ROWS)
        told: dict[str, Any] = {"condition": self.condition, "seed": self.seed, "batch_size": size}
        return sample(flow, self.noise, self.steps, step=step, **told)


@dataclass(frozen=True)
class SteeringMethod:
    """A method of steered sampling.

    Attributes:
        draw: Function of a task.
        about: The method in words.
        steps: Usual number of steps.
        needs: The ability of a flow map that it takes, a key of NEEDS.
        weighs: Whether particles compete, and are weighted.
        measured: Whether it takes measurements alone.
    """

    draw: Callable[[SteeringTask], Particles | Candidates | Tensor]
    about: str
    steps: int = 50
    needs: str = "velocity"
    weighs: bool = False
    measured: bool = False


NEEDS = {
    "velocity": "a velocity",
    "to data": "jumps to data from any time",
    "jumps": "jumps between any times",
    "samples": "samples",
}
"""Abilities of flow maps, in words."""


def _restart(task: SteeringTask) -> dict[str, Any]:
    """The kernel of a map that knows jumps to data alone."""
    return {"kernel": steppers.restart} if "velocity" not in abilities(task.flow) else {}


def _cm_solver(task: SteeringTask) -> Tensor:
    step = steppers.ancestral if "velocity" in abilities(task.flow) else steppers.restart
    return task.rows(task.flow, steering.cm_solver(task.reward, step=step))  # type: ignore[arg-type]


def _fmrg(task: SteeringTask) -> Tensor:
    inner = 4 if isinstance(task.reward, Likelihood) else 1  # one step leaves twice the noise in the residual of digits
    return task.rows(task.flow, steering.fmrg(task.reward, relative=1.0, inner=inner))


def _best_of(task: SteeringTask) -> Candidates:
    size = rows_at_a_time(math.prod(task.noise.shape[2:]), MOST_ROWS)
    told: dict[str, Any] = {"condition": task.condition, "seed": task.seed, "batch_size": size}
    step = steppers.euler if isinstance(task.flow, GuidedVelocity) else steppers.default(task.flow, task.steps)
    return steering.best_of(task.flow, task.reward, task.noise, step=step, steps=task.steps, **told)


METHODS = {
    "particles": SteeringMethod(
        lambda task: task.particles(steering.particles, value=task.value(task.floor)),
        "weighted particles, whose law is right",
        weighs=True,
    ),
    "tds": SteeringMethod(
        lambda task: task.particles(steering.tds, floor=task.floor),
        "particles that look ahead by the denoised state",
        weighs=True,
    ),
    "fmtt": SteeringMethod(
        lambda task: task.particles(steering.fmtt, floor=task.floor, **_restart(task)),
        "particles that look ahead by jumps",
        needs="to data",
        weighs=True,
    ),
    "tilt": SteeringMethod(
        lambda task: task.rows(steering.tilt(task.flow, task.value()), steppers.heun),
        "the steered ODE, each sample by itself",
    ),
    "dps": SteeringMethod(
        lambda task: task.rows(task.flow, steering.dps(task.reward, data_std=WIDTH)),  # type: ignore[arg-type]
        "random steps towards a measurement",
        measured=True,
    ),
    "cm_solver": SteeringMethod(
        _cm_solver, "random steps with jumps to data towards a measurement", 50, "to data", False, True
    ),
    "universal": SteeringMethod(
        lambda task: task.rows(task.flow, steering.universal(task.reward)),
        "Euler steps along the gradient of the reward",
    ),
    "fmrg": SteeringMethod(_fmrg, "few jumps, each with a gradient step: the highest reward", 8, "jumps"),
    "best_of": SteeringMethod(_best_of, "the best of --particles samples, for each sample", 1, "samples"),
}
"""The methods by name."""
USUAL = ("particles", "fmtt", "best_of")
"""Methods that "auto" stands for: the first one that is right for the run."""


def abilities(flow: Any) -> set[str]:
    """The abilities of a flow map: keys of NEEDS."""
    if isinstance(flow, GuidedVelocity):
        return {"samples", "velocity"}
    trained = flow.trained
    jumps = trained is None or trained.jumps
    to_data = jumps and flow.only_source is None and (trained is None or trained.source is None)
    anywhere = to_data and flow.only_target is None and (trained is None or trained.target is None)
    velocity = not flow.is_partial and (trained is None or trained.velocity)
    found = {"samples": True, "velocity": velocity, "to data": to_data, "jumps": anywhere}
    return {name for name, able in found.items() if able}


def check_name(name: Any) -> None:
    """Check the name of a method of steering, or "auto".

    Args:
        name: The name.

    Raises:
        TypeError: It is no text.
        ValueError: There is no such method.
    """
    if not isinstance(name, str):
        raise TypeError(f"a method of steering is a name, such as {USUAL[0]}, got {shown(name)}")
    if name != "auto" and name not in METHODS:
        raise ValueError(
            f"unknown method of steering {name!r}{did_you_mean(name, METHODS)}; known are auto, {', '.join(METHODS)}"
        )


def method_of(name: str, flow: Any, reward: Rewards) -> tuple[str, SteeringMethod]:
    """Choose a method of steering.

    Args:
        name: Its name, which `check_name` has checked. "auto": the first one of USUAL that is right for the flow map.
        flow: The flow map, or its guided velocity.
        reward: The reward.

    Returns:
        The name and the method.

    Raises:
        ValueError: The method is wrong for the flow map or the reward.
    """
    able = abilities(flow)
    right = [key for key, one in METHODS.items() if one.needs in able]
    if name == "auto":
        name = next(key for key in USUAL if key in right)
    method = METHODS[name]
    if method.needs not in able:
        has = " and ".join(text for key, text in NEEDS.items() if key in able and key != "samples")
        kind = "guided velocity" if isinstance(flow, GuidedVelocity) else "flow map"
        raise ValueError(
            f"{name} needs {NEEDS[method.needs]}, and the {kind} of this run has {has or 'one jump from noise'} alone: "
            f"take {', '.join(right)}"
        )
    if method.measured and not isinstance(reward, Likelihood):
        others = [key for key in right if not METHODS[key].measured]
        raise ValueError(
            f"{name} is for measurements, such as --inpaint, and not for a reward: take {', '.join(others)}"
        )
    return name, method
