"""Sequences of continuous frames: a flow-map head inside an autoregressive model, and sound as frames and back.

`Autoregressive` puts a flow map of one frame on a backbone; `teacher_forced` makes any method a method of sequences.
A `Signal` turns sound into frames, by an `MDCT` or a `LogMel`, and frames into sound.
"""

from .autoregressive import Autoregressive, Generated, guided_contexts, guided_contexts_loss
from .forcing import TeacherForced, teacher_forced, with_contexts
from .log_mel import LogMel
from .mdct import MDCT
from .signal import Signal, Transform

__all__ = [
    "Autoregressive",
    "Generated",
    "LogMel",
    "MDCT",
    "Signal",
    "TeacherForced",
    "Transform",
    "guided_contexts",
    "guided_contexts_loss",
    "teacher_forced",
    "with_contexts",
]
