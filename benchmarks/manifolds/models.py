"""The methods of `benchmarks.manifolds`, and the ways to sample their maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
    "gfm_psd": Model("`gfm_psd`", partial(fm.methods.gfm_psd, diagonal=0.5)),
    "gfm_esd": Model("`gfm_esd`", fm.methods.gfm_esd),
    "riemannian_meanflow": Model("`riemannian_meanflow`", fm.methods.riemannian_meanflow),
}
"""The semigroup rule learns long jumps from short ones, so it has half of the batch on the diagonal."""
CONTROLS = {
    "gfm_psd_75": Model("`gfm_psd`, three quarters on the diagonal", fm.methods.gfm_psd),
    "meanflow_adaptive": Model(
        "`riemannian_meanflow`, adaptive weight",
        partial(fm.methods.riemannian_meanflow, weight=fm.weight.adaptive()),
    ),
}
"""Settings that are worse, on the set with an exact map alone."""


def models_of(name: str) -> dict[str, Model]:
    """The methods of a set."""
    return MODELS | CONTROLS if name == "zonal" else MODELS
