"""Forward mode by dual numbers: derivatives of ordinary tensor operations, carried beside their values.

Importing this package registers the rule of every supported operation (`rules`). Any other operation is differentiated
alone by `torch.func.jvp`. The names below are the whole interface: no other package imports the modules inside.
"""

from . import rules as rules
from .blocks import SCORES_PER_BLOCK
from .dual import Detached, Dual, InPlace, primal, tangent
from .tensor import check, dual_number
from .whole import LOST, RefuseDetached, RefuseWrong, moves, random_state, set_random_state, warn_of

__all__ = [
    "LOST", "SCORES_PER_BLOCK", "Detached", "Dual", "InPlace", "RefuseDetached", "RefuseWrong", "check", "dual_number",
    "moves", "primal", "random_state", "set_random_state", "tangent", "warn_of",
]  # fmt: skip
