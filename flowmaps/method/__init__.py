"""Method = terms with shares of the batch; term = rule x velocity source x times x weight.

loss = sum over terms of  share * mean over its rows of  weight(rule(flow, teacher, x_s, s, t), s, t)
"""

from . import balance, stages, term
from .method import Loss, Method, measure, split_rows
from .stages import Stages
from .term import Term, TermLoss

__all__ = ["Loss", "Method", "Stages", "Term", "TermLoss", "balance", "measure", "split_rows", "stages", "term"]
