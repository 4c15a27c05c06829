"""Sequences of continuous frames: a flow-map head inside an autoregressive model, and sound as frames and back.

`Autoregressive` puts a flow map of one frame on a backbone; `teacher_forced` makes any method a method of sequences.
A `Signal` turns sound into frames, by an `MDCT` or a `LogMel`, and frames into sound.
"""

from .autoregressive import Autoregressive, Generated, guided_contexts_loss
from .log_mel import LogMel
from .mdct import MDCT
from .signal import Signal, Transform
from .teacher_forced import TeacherForced, lengths_of, teacher_forced, with_contexts

__all__ = [
    "Autoregressive",
    "Generated",
    "LogMel",
    "MDCT",
    "Signal",
    "TeacherForced",
    "Transform",
    "guided_contexts_loss",
    "lengths_of",
    "teacher_forced",
    "with_contexts",
]
