"""Samplers of (s, t), and curricula that change them in the course of training.

A sampler is a function (n, progress, like) -> (s, t). It returns two tensors of shape (n,) on the device of `like`, in
its dtype but never below float32, with 0 <= t <= s <= 1 unless it says otherwise; `per_frame` makes one that draws
times for each frame. progress in [0, 1] is the share of training that is done. All samplers draw from torch's global
generator.
"""

from . import grids
from .clocks import Clock, TableClock, clocked, clocked_by_classes, flm_clock
from .frames import PerFrame, independent, of_one_frame, per_frame, rising
from .modifiers import at_most, both_directions, from_noise, grouped, growing_gap, mixture, to_data, with_diagonal
from .samplers import (
    Times,
    after_u_shape,
    angle_normal,
    doubling_steps,
    doubling_strip,
    dyadic,
    gap,
    gap_logit_normal,
    grid,
    logit_normal_below,
    logit_normal_diagonal,
    logit_normal_pairs,
    phase_of,
    stratified_diagonal,
    strip,
    times_like,
    uniform_diagonal,
    uniform_triangle,
)

__all__ = [
    "Clock", "PerFrame", "TableClock", "Times", "after_u_shape", "angle_normal", "at_most", "both_directions",
    "clocked", "clocked_by_classes", "doubling_steps", "doubling_strip", "dyadic", "flm_clock", "from_noise", "gap",
    "gap_logit_normal", "grid", "grids", "grouped", "growing_gap", "independent", "logit_normal_below",
    "logit_normal_diagonal", "logit_normal_pairs", "mixture", "of_one_frame", "per_frame", "phase_of", "rising",
    "stratified_diagonal", "strip", "times_like", "to_data", "uniform_diagonal", "uniform_triangle", "with_diagonal",
]  # fmt: skip
