"""The options of `flowmaps likelihood`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .options_shared import Common


@dataclass(frozen=True, kw_only=True)
class Likelihood(Common):
    """Compute log-densities of held-out, training and random rows under a run, and of other DATA beside them.

    The table and its histogram are kept in the run folder as likelihood.json and likelihood.png.

    Example: flowmaps likelihood runs/digits letters.npy --by hutchinson:8 bound:64 --no-labels
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run folder."""
    data: Annotated[Positional[str | None], arg(metavar="DATA")] = None
    """Another data set to compare with, as for `train`: a name, a folder or a file, of the shape of the run's data. Its
    held-out rows are taken, or all if none are held out."""
    by: tuple[str, ...] = ()
    """Estimators, each a part of the table. ode:STEPS, the flow's ODE, with the exact trace for at most 64 values in a
    row; exact:STEPS, always with it; hutchinson:PROBES, with an estimated trace; jumps:STEPS, the jumps from data to
    noise; joint:STEPS, for joint maps; bound:DRAWS, the variational bound; tokens:DRAWS, the bound for tokens. None:
    tokens:16 for tokens, ode for at most 16 values in a row, else hutchinson:8."""
    n: Annotated[int, arg(aliases=["-n"])] = 64
    """Number of rows of each kind."""
    label: int | None = None
    """Class of all rows. None: each row has its own class."""
    labels: bool = True
    """Condition a class-conditional run on the class of each row. --no-labels: log p(x), by the null class if the run
    knows it, else as the mean of p(x | class) over all classes; then also how many held-out rows have their own class
    as the most probable one."""
    guidance: float | None = None
    """Scale of guidance, as for `sample`."""
    guidance_interval: str | None = None
    """Times between which guidance acts, such as 0.2:0.8. None: all."""
    data_args: tuple[str, ...] = ()
    """Options of DATA, as name=value."""
    start: float | None = None
    """Time at which log-densities begin. None: for images of whole levels the time whose noise fills the gaps between
    levels, else 0. A later time gives the density of noisy data. 0: uniform noise in the gaps, the default for runs
    that were trained on dequantised images."""
    seed: int = 0
    """Seed of the choice of rows, and of all random numbers."""
    ema: bool = True
    """Use the averaged weights."""
    device: str | None = None
    """Device to compute on, such as cpu or cuda:1. None: a GPU if there is one."""
    json: bool = False
    """Print JSON instead of a table."""
