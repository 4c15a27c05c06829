"""Sequences of continuous frames: a flow-map head inside an autoregressive model.

`Autoregressive` puts a flow map of one frame on a backbone; `teacher_forced` makes any method a method of sequences.
"""

from .autoregressive import Autoregressive, Generated, guided_contexts_loss
from .teacher_forced import TeacherForced, lengths_of, teacher_forced

__all__ = ["Autoregressive", "Generated", "TeacherForced", "guided_contexts_loss", "lengths_of", "teacher_forced"]
