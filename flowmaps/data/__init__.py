"""Data: toys in the plane, digits, folders of images, arrays, Hugging Face data sets, objects of yours, couplings that
a teacher makes, and none at all.
"""

from .core import Batch, Data
from .coupling import reflow
from .load import load
from .nothing import nothing
from .objects import as_data

__all__ = ["Batch", "Data", "as_data", "load", "nothing", "reflow"]
