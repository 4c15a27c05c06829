"""Checks of arguments, and hints for names and packages that do not exist.

A wrong type is a TypeError, a wrong value a ValueError. The message says the expected and the actual value.
"""

from .devices import device_of
from .names import did_you_mean, expect_path, install, listed, refuse_factory
from .numbers import (
    MOST_CLASSES,
    MOST_LAYERS,
    MOST_VALUES,
    MOST_WIDTH,
    at_least,
    between,
    check_seed,
    checked,
    finite,
    given,
    numbered,
    positive,
    shown,
    truth,
    whole,
    within,
)
from .signatures import expect_time, expect_two_times
from .tensors import (
    brief,
    brief_repr,
    expect_finite,
    expect_floating,
    expect_tensor,
    is_readable,
    refuse_written,
    version,
)

__all__ = [
    "MOST_CLASSES", "MOST_LAYERS", "MOST_VALUES", "MOST_WIDTH", "at_least", "between", "brief", "brief_repr",
    "check_seed", "checked", "device_of", "did_you_mean", "expect_finite", "expect_floating", "expect_path",
    "expect_tensor", "expect_time", "expect_two_times", "finite", "given", "install", "is_readable", "listed",
    "numbered", "positive", "refuse_factory", "refuse_written", "shown", "truth", "version", "whole", "within",
]  # fmt: skip
