"""Papers' own settings: variants of the methods, where the setting is more than a number.

A variant is a function like the method's. Its name is the method's name with the setting, and it works wherever a name
of a method does. `docs/papers.md` compares our defaults, the papers and their code.
"""
# ruff: noqa: F403

from . import consistency_models, flow_maps, mean_flows, trajectories
from .consistency_models import *
from .flow_maps import *
from .mean_flows import *
from .record import Variant, variant
from .trajectories import *

NAMES = (*consistency_models.__all__, *trajectories.__all__, *mean_flows.__all__, *flow_maps.__all__)
VARIANTS: tuple[Variant, ...] = tuple(globals()[name].row for name in NAMES)
"""The records of all variants."""

__all__ = ["VARIANTS", "Variant", "variant", *NAMES]
