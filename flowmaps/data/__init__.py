"""Data: toys in the plane, digits, folders of images, arrays, Hugging Face data sets, and objects of yours."""

from .core import Batch, Data
from .load import load
from .objects import as_data

__all__ = ["Batch", "Data", "as_data", "load"]
