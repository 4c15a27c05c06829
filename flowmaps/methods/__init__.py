"""The landscape: one function for each method, with its row, in the file of its family."""
# ruff: noqa: F403

from . import variants
from .adversarial import *
from .adversarial_distillation import *
from .beside import BESIDE, Beside
from .compositional import *
from .consistency_models import *
from .consistency_training import *
from .data_free import *
from .diffusion import *
from .discrete import *
from .distribution_matching import *
from .drifting_models import *
from .eulerian import *
from .frechet import *
from .inductive_moments import *
from .lagrangian import *
from .landscape import BEYOND, DISCRETE, DISTRIBUTIONAL, LANDSCAPE, MANIFOLDS
from .language import *
from .likelihood import *
from .manifolds import *
from .mean_flows import *
from .mid_training import *
from .moment_matching import *
from .noise_adapters import *
from .noise_adapters import NoiseAdapter
from .papers import Paper
from .parts import with_term
from .policy_flow import *
from .posterior import *
from .reward_gradients import *
from .rewards import *
from .rollouts import RestartedRollout, Rollout, off_diagonal, on_policy
from .row import Row, landscape_row
from .score_identity import *
from .self_evaluation import *
from .shrinking_steps import *
from .trig_flow import *

__all__ = [
    "BESIDE", "BEYOND", "DISCRETE", "DISTRIBUTIONAL", "LANDSCAPE", "MANIFOLDS", "Beside", "NoiseAdapter", "Paper",
    "RestartedRollout", "Rollout", "Row", "landscape_row", "off_diagonal", "on_policy", "variants", "with_term",
    *(record.name for record in BESIDE),
    *(row.name for row in (*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL)),
]  # fmt: skip
