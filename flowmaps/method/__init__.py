"""Methods and their terms: a method is a sum of terms, a term is a rule with velocity source, times and weight.

loss = sum over terms of  share * mean over its rows of  weight(rule(flow, teacher, x_s, s, t), s, t)
"""

from . import balance, stages, term, turns
from .batch import split_rows
from .method import Loss, Method, measure
from .stages import Stages
from .term import Term, TermLoss
from .turns import Turns

__all__ = [
    "Loss", "Method", "Stages", "Term", "TermLoss", "Turns", "balance", "measure", "split_rows", "stages", "term",
    "turns",
]  # fmt: skip
