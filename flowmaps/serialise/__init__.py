"""Objects as plain JSON, so that a run folder stores a network without pickle.

Classes and functions have public names: the public package or module below `flowmaps`, and the name in it, such as
"networks.DiT" or "path.Linear". The name does not contain the file, so a file can move within its package. A file may
name the parts of flow maps that are in the registry, `PARTS`, and nothing else; the arguments of a class are checked
against its annotations before it is called. Tensors are stored as shape and dtype; their values are in the state dict
(safetensors).
"""

from .checking import check_arguments, fits, mismatch
from .checking import shown as shown_value
from .config_diff import SHOWN, differences, shown
from .description import ADDED, build, describe, dtype_named
from .names import BEFORE, PUBLIC, RENAMED, current, describable, public_module, public_name
from .registry import NAMES, PARTS, find, is_named

__all__ = [
    "ADDED", "BEFORE", "NAMES", "PARTS", "PUBLIC", "RENAMED", "SHOWN", "build", "check_arguments", "current",
    "describable", "describe", "differences", "dtype_named", "find", "fits", "is_named", "mismatch",
    "public_module", "public_name", "shown", "shown_value",
]  # fmt: skip
