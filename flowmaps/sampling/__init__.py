"""Sampling is a composition of steps:  for s, t in pairs(times): x = step(flow, x, s, t)."""

from .composition import sample, sample_, trajectory
from .grid import time_grid
from .inversion import HEUN_STEPS, interpolate, invert, slerp
from .states import Condition, by_name, check_state, noise, placed, restored, rows_of, standardised

__all__ = [
    "HEUN_STEPS", "Condition", "by_name", "check_state", "interpolate", "invert", "noise", "placed", "restored",
    "rows_of", "sample", "sample_", "slerp", "standardised", "time_grid", "trajectory",
]  # fmt: skip
