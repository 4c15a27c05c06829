"""Steering: any reward or measurement steers any flow map.

A *reward* is a function of data (`fm.rewards`), a *look-ahead* tells the data that a state leads to (`fm.look`), and a
*value* of the two estimates log E[e^{r(x0)} | x_t]. From values follow:

- `tilt(flow, value)`: a steered velocity, for ODE steps, or as a teacher; `exact_tilt` where it needs no value.
- `corrected(step, value)`, `tilted(step, value)`, `recurred(step, times)`: steps made of steps.
- `particles(...)`: weighted samples of the tilted law p e^r / Z, with log Z and the effective number of particles.
- `best_of(...)`, `langevin(...)`: selection and dynamics of the noise alone.

The papers' methods are sentences of these parts: `dps`, `universal`, `tds`, `fmtt`, `cm_solver`, `fmrg`.
"""

from .correct import corrected, recurred
from .look import Look, Outlook
from .papers import cm_solver, dps, fmrg, fmtt, tds, universal
from .search import Candidates, Chains, best_of, langevin
from .smc import Particles, particles
from .spread import Spread
from .tilts import Descended, ExactTilt, SteeredVelocity, Tilt, descended, exact_tilt, tilt, tilted
from .values import Gradient, Value, clipped, free, full, normalised, stopped, value

__all__ = [
    "Candidates", "Chains", "Descended", "ExactTilt", "Gradient", "Look", "Outlook", "Particles", "Spread",
    "SteeredVelocity", "Tilt", "Value", "best_of", "clipped", "cm_solver", "corrected", "descended", "dps",
    "exact_tilt", "fmrg", "fmtt", "free", "full", "langevin", "normalised", "particles", "recurred",
    "stopped", "tds", "tilt", "tilted", "universal", "value",
]  # fmt: skip
