"""The rules of forward mode, one group of operations a file. Importing them fills the table `dual.RULES`."""

from . import attention, elementwise, fill, layers, norms, reductions, transforms

__all__ = ["attention", "elementwise", "fill", "layers", "norms", "reductions", "transforms"]
