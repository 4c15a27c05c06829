"""Steering: any reward or measurement steers any flow map.

A *reward* is a function of data (`fm.rewards`), a *look-ahead* tells the data that a state leads to (`fm.look`), and a
*value* of the two estimates log E[e^{r(x0)} | x_t]. From values follow:

- `tilt(flow, value)`: a steered velocity, for ODE steps, or as a teacher; `exact_tilt` where it needs no value.
- `corrected(step, value)`, `tilted(step, value)`, `recurred(step, times)`: steps made of steps.
- `particles(...)`: weighted samples of the tilted law p e^r / Z, with log Z and the effective number of particles.
- `best_of(...)`, `langevin(...)`: selection and dynamics of the noise alone.

The papers' methods are sentences of these parts: `dps`, `universal`, `tds`, `fmtt`, `cm_solver`,
`fmrg`, `meta_flow_map`, `diamond`, `weighted_diamond`, `variational`.
"""

from .correct import corrected, recurred
from .look import Look, Outlook
from .papers import (
    cm_solver,
    diamond,
    dps,
    fmrg,
    fmtt,
    meta_flow_map,
    tds,
    universal,
    variational,
    weighted_diamond,
)
from .search import Candidates, Chains, best_of, langevin
from .smc import Particles, particles
from .spread import Spread
from .tilts import SteeredVelocity, Tilt, tilt, tilted
from .values import Gradient, Value, clipped, free, full, normalised, stopped, value
from .without_values import Descended, ExactTilt, descended, exact_tilt

__all__ = [
    "Candidates", "Chains", "Descended", "ExactTilt", "Gradient", "Look", "Outlook", "Particles", "Spread",
    "SteeredVelocity", "Tilt", "Value", "best_of", "clipped", "cm_solver", "corrected", "descended", "diamond", "dps",
    "exact_tilt", "fmrg", "fmtt", "free", "full", "langevin", "meta_flow_map", "normalised", "particles", "recurred",
    "stopped", "tds", "tilt", "tilted", "universal", "value", "variational", "weighted_diamond",
]  # fmt: skip
