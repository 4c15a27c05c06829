"""Guidance: velocities made of velocities, and velocities that a flow map learns guided.

A flow map in a few jumps has no steps at which a velocity could be changed, so it has to learn from one that is guided.

- Velocities, which are teachers and follow their ODE: `classifier_free`, `autoguidance`, `model_guidance`, `mixture`.
- Training without a teacher, by `guided(method, source)`: the sources `meanflow`, `dmf`, `soflow`, `imf`, `tvm`, `gft`,
  `lsd` are named after the papers and methods that they are from.

A scale is always the effective one: scale w is the velocity v(null) + w [v(c) - v(null)], and 1 is no guidance. Papers
that count from 0 (LCM), or by the weights of a mixture, are converted in the docstrings.
"""

from ..flow_map import GuidanceSpec
from .base import Guided
from .conditions import Fading, Within
from .pairs import FromPairs
from .schemes import dmf, gft, guided, imf, lsd, meanflow, soflow, tvm
from .teachers import OfConsistency
from .velocities import (
    Autoguidance,
    ClassifierFree,
    Mixture,
    ModelGuidance,
    autoguidance,
    classifier_free,
    mixture,
    model_guidance,
)

__all__ = [
    "Autoguidance", "ClassifierFree", "Fading", "FromPairs", "Guided", "GuidanceSpec", "Mixture", "ModelGuidance",
    "OfConsistency", "Within", "autoguidance", "classifier_free", "dmf", "gft", "guided", "imf", "lsd", "meanflow",
    "mixture", "model_guidance", "soflow", "tvm",
]  # fmt: skip
