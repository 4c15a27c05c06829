"""Pretrained models as teachers: a prediction on the network's schedule, converted to a velocity on our path.

- `teacher(predict, predicts, schedule)` makes a teacher of any module or function.
- `Reading` is the conversion, and `Affine` a network's clock.
- `Pretrained` is a network with its reading.
"""

from .model import Pretrained, teacher
from .reading import CLEANEST, Affine, Predicts, Reading

__all__ = ["CLEANEST", "Affine", "Predicts", "Pretrained", "Reading", "teacher"]
