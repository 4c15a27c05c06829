"""Outputs: from the value that a network predicts to the average velocity V.

An output is any function (value, x, s, t, path) -> V: the network's value and x of shape (B, ...), the times s and t as
(B, 1, ..., 1), the path. `average_velocity` is the default. An output with the attribute `reshapes = True` takes values
of other shapes than x's. One with the attribute `elementwise = True` treats each number of x apart, so it takes times
per frame.
"""

from __future__ import annotations

from .bounds import Bounded
from .gaussian import GaussianSkip
from .policy import MixturePolicy, Policy, policy_of
from .predictions import Endpoint, Output, Position, Rotation, average_velocity
from .separable import SeparableSkip

__all__ = [
    "Bounded", "Endpoint", "GaussianSkip", "MixturePolicy", "Output", "Policy", "Position", "Rotation", "SeparableSkip",
    "average_velocity", "policy_of",
]  # fmt: skip
