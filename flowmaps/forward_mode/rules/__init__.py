"""The rules of forward mode, one group of operations a file. Importing them fills the table `dual.RULES`."""

from . import attention, common, elementwise, layers, norms, reductions, transforms, writing

__all__ = ["attention", "common", "elementwise", "layers", "norms", "reductions", "transforms", "writing"]
