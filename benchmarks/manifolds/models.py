"""The methods of `benchmarks.manifolds`, and the ways to sample their maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flowmaps as fm

FLOOR = "floor"
"""Name of the cell with the measures of data themselves."""
JUMPS = tuple(("jumps", n) for n in (1, 2, 4))
EULER = (("euler", 1), ("euler", 50))
STEPS = {"jumps": fm.steps.jump, "euler": fm.steps.euler}
TEACHER = ("euler", 50)
"""The way to sample that one jump is compared with."""


@dataclass(frozen=True)
class Model:
    """A method.

    Attributes:
        title: Its name in tables.
        method: Makes the method.
        samplers: Ways to sample its map: the step and the number of steps.
    """

    title: str
    method: Callable[[], fm.Method]
    samplers: tuple[tuple[str, int], ...] = (*JUMPS, *EULER)


MODELS = {
    "riemannian_flow_matching": Model("flow matching", fm.methods.riemannian_flow_matching, EULER),
    "gfm_lsd": Model("`gfm_lsd`", fm.methods.gfm_lsd),
    "gfm_psd": Model("`gfm_psd`", fm.methods.gfm_psd),
    "gfm_esd": Model("`gfm_esd`", fm.methods.gfm_esd),
    "riemannian_meanflow": Model("`riemannian_meanflow`", fm.methods.riemannian_meanflow),
}
