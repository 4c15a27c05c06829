"""Discrete data: rows of tokens with some tokens given.

`infill(flow, noise, held)` draws the tokens that are free, given those that are held, by weighted particles. `Held` is
the reward that says which tokens are given; every method of `fm.steering` takes it.
"""

from .infilling import Held, infill

__all__ = ["Held", "infill"]
