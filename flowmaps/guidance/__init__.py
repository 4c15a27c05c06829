"""Guidance: guided velocities of given models, and training of flow maps towards guided velocities.

A flow map samples in a few jumps, so it cannot be guided step by step. It has to learn a guided velocity.

- Guided velocities, which are teachers and can be sampled by ODE steps: `classifier_free`, `autoguidance`,
  `model_guidance`, `mixture`.
- Training without a teacher, by `guided(method, source)`. The sources `meanflow`, `dmf`, `soflow`, `imf`, `tvm`, `gft`
  and `lsd` have the names of their papers or methods.

A scale is always the effective one: scale w is the velocity v(null) + w [v(c) - v(null)], and 1 is no guidance. The
docstrings convert the conventions of papers that count from 0 (LCM), or by the weights of a mixture.
"""

from ..flow_map import GuidanceSpec
from .base import GuidedVelocity
from .intervals import Fading, Within
from .pairs import GuidedConditional
from .schemes import dmf, gft, guided, imf, lsd, meanflow, soflow, tvm
from .self_distillation import GuidedSelfDistillation
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

FromPairs = GuidedConditional
"""The former name of `GuidedConditional`."""

Guided = GuidedVelocity
"""The former name of `GuidedVelocity`."""

OfConsistency = GuidedSelfDistillation
"""The former name of `GuidedSelfDistillation`."""

__all__ = [
    "Autoguidance", "ClassifierFree", "Fading", "FromPairs", "Guided", "GuidanceSpec", "GuidedConditional",
    "GuidedSelfDistillation", "GuidedVelocity", "Mixture", "ModelGuidance", "OfConsistency", "Within", "autoguidance",
    "classifier_free", "dmf", "gft", "guided", "imf", "lsd", "meanflow", "mixture", "model_guidance", "soflow", "tvm",
]  # fmt: skip
