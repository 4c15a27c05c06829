"""Objects as plain JSON, so that a run folder stores a network without pickle.

Classes and functions have public names: the public package or module below `flowmaps`, and the name in it, such as
"networks.DiT" or "path.Linear". The name does not contain the file, so a file can move within its package. Only public
things can be named: classes with `@describable` and frozen dataclasses of the modules in `PUBLIC`, and functions of the
modules in `FUNCTIONS`. Tensors are stored as shape and dtype; their values are in the state dict (safetensors).
"""

from .config_diff import SHOWN, differences, shown
from .description import build, describe
from .names import BEFORE, FUNCTIONS, PUBLIC, RENAMED, current, describable, find, public_module, public_name

__all__ = [
    "BEFORE", "FUNCTIONS", "PUBLIC", "RENAMED", "SHOWN", "build", "current", "describable", "describe", "differences",
    "find", "public_module", "public_name", "shown",
]  # fmt: skip
