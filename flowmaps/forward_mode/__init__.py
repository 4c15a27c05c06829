"""Forward mode by dual numbers: derivatives of ordinary tensor operations, carried beside their values.

Importing this package registers one rule for each operation that has one (`rules`). Any other operation is
differentiated alone by `torch.func.jvp`.
"""

from . import rules as rules
from .dual import Detached, Dual, primal, tangent
from .tensor import check, dual_number

__all__ = ["Detached", "Dual", "check", "dual_number", "primal", "tangent"]
