"""Choice of a step: by its name, or for a flow map."""

from __future__ import annotations

from typing import Any

from ..arguments import at_least, did_you_mean, refuse_factory, shown
from ..flow_map import check_jump
from .deterministic import Step, euler, heun, jump, ode
from .kernels import ancestral, restart, sde

NAMES = {
    "jump": jump, "euler": euler, "heun": heun, "ode": ode, "ancestral": ancestral, "sde": sde, "restart": restart,
}  # fmt: skip
"""Steps that a name stands for."""


def named(step: Any) -> Step:
    """Return a step by its name, or a step itself.

    Args:
        step: A step; a name such as "euler"; or one of the functions `sde` and `ode` that make a step, which then has
            its defaults.

    Returns:
        The step.

    Raises:
        TypeError: It is neither a step nor a name, or another function that makes one.
        ValueError: There is no such step.
    """
    if isinstance(step, str):
        if step not in NAMES:
            raise ValueError(f"unknown step {step!r}{did_you_mean(step, NAMES)}; known are {', '.join(NAMES)}")
        step = NAMES[step]
    if step is sde or step is ode:
        return step()
    refuse_factory("a step", step, "Step")
    refuse_factory("a step", step, "Kernel")
    if not callable(step):
        raise TypeError(f"a step is a function such as steps.euler or its name, got {shown(step)}")
    return step


def default(flow: Any, steps: int) -> Step:
    """Choose the step that samples a map in a number of equal steps from t = 1 to t = 0.

    Args:
        flow: The flow map.
        steps: Number of steps.

    Returns:
        `jump` if the map knows all jumps on the way, `restart` for several steps of a map to t = 0 alone, `euler` for a
        map that was trained on its velocity alone, `ancestral` for one whose denoised field was trained as samples.

    Raises:
        ValueError: The map does not take this number of steps: a map from s = 1 alone takes one.
    """
    at_least(1, steps=steps)
    check_jump(flow, 1.0, 0.0)
    trained = getattr(flow, "trained", None)
    if trained is not None and not trained.jumps:
        return ancestral if trained.ancestral else euler
    if steps == 1 or not (getattr(flow, "is_partial", False) or (trained is not None and trained.target == 0)):
        return jump
    check_jump(flow, 1 - 1 / steps, 0.0)
    return restart
