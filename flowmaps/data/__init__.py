"""Data sets.

Toy distributions in the plane, digits, glyphs, patches of photographs, time series, folders of images, arrays, Hugging
Face data sets, Python objects, couplings made by a teacher, and none at all.
"""

from .core import Batch, Data
from .coupling import reflow
from .data_free import no_data
from .filtering import filtered
from .load import load
from .objects import as_data
from .observed import WithMeasurement, WithState, with_measurement, with_state

nothing = no_data
"""The name of `no_data` in version 0.1."""

__all__ = [
    "Batch", "Data", "WithMeasurement", "WithState", "as_data", "filtered", "load", "no_data", "nothing", "reflow",
    "with_measurement", "with_state",
]  # fmt: skip
