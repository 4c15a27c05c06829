"""The landscape: one function for each method, with its row, in the file of its family."""
# ruff: noqa: F403

from . import variants
from .compositional import *
from .consistency_models import *
from .consistency_training import *
from .data_free import *
from .diffusion import *
from .eulerian import *
from .lagrangian import *
from .landscape import LANDSCAPE
from .mean_flows import *
from .mid_training import *
from .noise_adapters import *
from .noise_adapters import __all__ as variational_names
from .papers import Paper
from .posterior import *
from .posterior import __all__ as posterior_names
from .reward_gradients import *
from .reward_gradients import __all__ as reward_names
from .rewards import *
from .rewards import __all__ as tilting_names
from .row import Row, landscape_row
from .shrinking_steps import *
from .trig_flow import *

BESIDE = [*posterior_names, *variational_names, *tilting_names, *reward_names]
"""Methods that are no rows of the landscape."""

__all__ = ["LANDSCAPE", "Paper", "Row", "landscape_row", "variants", *BESIDE, *(row.name for row in LANDSCAPE)]
